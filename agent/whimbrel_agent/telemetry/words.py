"""Words of categories that the vocabulary lacks: met here, and told sealed.

What is met is kept in memory only, and little of it: a word that is lost with a process is met
again. What was told is not told twice by one process; the server takes it as once anyway.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from whimbrel_core.profile.layout import Layout

KIND = "words"
_MAX_MET = 64  # words kept per feature and window; a text that never repeats is no category
_MAX_TOLD_AT_ONCE = 8
_MAX_TOLD = 256


class NewWords:
    """The unknown words of one model's categories.

    Args:
        layout: of its profile.
        device: this device's name.
        k: devices that must have met a word before the server can read it; 0: tell nothing.
    """

    def __init__(self, layout: Layout, *, device: str, k: int) -> None:
        self._layout = layout
        self._device, self._k = device, k
        features = layout.features if k and device else ()
        self._known = {
            index: frozenset(feature.vocabulary)
            for index, feature in enumerate(features)
            if feature.kind == "categorical"
        }
        self._met: dict[int, Counter[str]] = {index: Counter() for index in self._known}
        self._told: set[tuple[int, str]] = set()

    def meet(self, index: int, word: object) -> None:
        """Take note of a word that feature ``index`` does not know."""
        met = self._met.get(index)
        if met is None:
            return
        if isinstance(word, bytes):
            try:
                word = word.decode()
            except UnicodeDecodeError:
                return
        if isinstance(word, str) and word and (word in met or len(met) < _MAX_MET):
            met[word] += 1

    def look(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Take note of the unknown words of a request."""
        for index, known in self._known.items():
            feature = self._layout.features[index]
            tensor = tensors.get(feature.tensor)
            if tensor is None or tensor.dtype.kind not in "OSU" or not len(tensor):
                continue
            rows = tensor.reshape(len(tensor), -1)
            if feature.column < rows.shape[1]:
                for word in rows[:, feature.column].tolist():
                    if word not in known:
                        self.meet(index, word)

    def take(self) -> list[dict[str, str]]:
        """Return what is to be told now, as details of events, and forget what was met."""
        # At the end of a window, not at a cold start.
        from whimbrel_core.profile.feature import MAX_WORD_CHARS
        from whimbrel_core.profile.privacy.words import seal

        details = []
        for index, met in self._met.items():
            name = self._layout.features[index].name
            words = [
                word
                for word, _ in met.most_common()
                if len(word) <= MAX_WORD_CHARS
                and word not in self._known[index]
                and (index, word) not in self._told
            ][: min(_MAX_TOLD_AT_ONCE, _MAX_TOLD - len(self._told))]
            met.clear()
            if words:
                self._told.update((index, word) for word in words)
                sealed = [
                    seal(word, profile_id=self._layout.profile_id, feature=name,
                         device=self._device, k=self._k)
                    for word in words
                ]  # fmt: skip
                details.append(
                    {"feature": name, "sealed": b64encode(msgspec.msgpack.encode(sealed)).decode()}
                )
        return details
