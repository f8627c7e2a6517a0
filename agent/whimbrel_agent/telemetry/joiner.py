"""Joins labels to the predictions that this device made, and counts the pairs.

A label names its prediction's id; the pair is counted in a window back-dated to the prediction,
of the bundle that made it. A label for a prediction of the version before the running one is
joined as well, as long as that version's bundle is in the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whimbrel_agent.telemetry.labels import (
    Prediction,
    PredictionTable,
    other_tables,
    table_path,
)
from whimbrel_core.errors import RequestError, WhimbrelError
from whimbrel_core.profile.counting.memberships import Memberships

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from whimbrel_agent.telemetry.recorder import Recorder
    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.profile.layout import Layout

    Label = str | int | float | bool

MAX_OLDER_VERSIONS = 3


class PredictionReader:
    """Reads what a label will need out of a model's outputs.

    Args:
        manifest: roles of the outputs.
        layout: classes, and the tensor of the score.
    """

    def __init__(self, manifest: Manifest, layout: Layout) -> None:
        self.layout = layout
        self._classes = {name: index for index, name in enumerate(layout.classes)}
        self._by_index = not any(_is_number(name) for name in layout.classes)
        roles: dict[str, str] = {}
        for output in manifest.outputs:
            roles.setdefault(output.role, output.name)
        self._label = roles.get("label")
        self._scores = layout.score_tensor
        self._value = roles.get("value", manifest.outputs[0].name)
        self._memberships = Memberships(layout)

    def read(
        self, tensors: Mapping[str, NDArray[Any]], rows: int, start_ms: int
    ) -> list[Prediction]:
        """Return one prediction per row of the outputs in ``tensors``."""
        layout = self.layout
        slices = self._memberships.of(tensors, rows)
        if layout.task == "regression":
            values = tensors[self._value].reshape(rows, -1)[:, 0].tolist()
            return [
                Prediction(start_ms, float(value), None, None, own)
                for value, own in zip(values, slices, strict=True)
            ]
        scores: list[list[float]] = []
        if self._scores is not None:
            scores = tensors[self._scores].reshape(rows, -1).tolist()
        if self._label is not None:
            labels = tensors[self._label].reshape(-1).tolist()
            predicted = [self.class_of(label) for label in labels]
        else:
            predicted = [_largest(row) for row in scores] or [None] * rows
        bins = [layout.score_bin(layout.score_of(row)) for row in scores] or [None] * rows
        return [
            Prediction(start_ms, 0.0, score_bin, index, own)
            for score_bin, index, own in zip(bins, predicted, slices, strict=True)
        ]

    def class_of(self, label: Label) -> int | None:
        """Return the index of the class that ``label`` names, or None when there is none.

        Class names are text; ``1``, ``1.0`` and ``"1"`` name the same class, and so do ``true``
        and a class called ``True``, ``true`` or ``1``. Where no name is a number, a number is a
        class index: models trained on words or truth values often answer with one.
        """
        classes = self._classes
        if isinstance(label, str):
            return classes.get(label)
        if isinstance(label, float):
            if not label.is_integer():
                return classes.get(str(label))
            label = int(label)
        for name in (str(label), str(label).lower(), str(int(label))):
            if name in classes:
                return classes[name]
        return int(label) if self._by_index and 0 <= label < len(classes) else None


class LabelJoiner:
    """Labels of one slot.

    Args:
        recorder: of the running version.
        manifest: of the running version.
        directory: of the tables.
        capacity: predictions to remember.
        older: returns recorder and manifest of another bundle by its digest; raises
            `WhimbrelError` when it is not in the store any more.
    """

    def __init__(
        self,
        recorder: Recorder,
        manifest: Manifest,
        *,
        directory: Path,
        capacity: int,
        older: Callable[[str], tuple[Recorder, Manifest]],
    ) -> None:
        self._directory = directory
        self._slot = recorder.model.slot
        self._digest = recorder.model.digest
        self._capacity = capacity
        self._older = older
        path = table_path(directory, self._slot, self._digest)
        self._reader = PredictionReader(manifest, recorder.layout)
        self._own = _Version(recorder, self._reader, PredictionTable(path, capacity=capacity))
        self._others: list[_Version] | None = None
        self.joined = 0

    def remember(
        self, ids: Sequence[str], tensors: Mapping[str, NDArray[Any]], start_ms: int
    ) -> None:
        """Keep the predictions in ``tensors`` under ``ids``, one per row."""
        table = self._own.table
        for name, prediction in zip(
            ids, self._reader.read(tensors, len(ids), start_ms), strict=True
        ):
            table.remember(name, prediction)

    def join(self, labels: Sequence[tuple[str, Label]]) -> int:
        """Count each label whose prediction is known and return how many were.

        Raises:
            RequestError: a label is no class or number of the running model. None was counted.
        """
        for name, label in labels:
            self._require_label(name, label)
        joined = sum(self._join_one(name, label) for name, label in labels)
        self.joined += joined
        return joined

    def close(self) -> None:
        """Unmap the tables; the files stay, for the next worker."""
        for version in (self._own, *(self._others or ())):
            version.table.close()

    @property
    def recorders(self) -> list[Recorder]:
        """Recorders of older versions that labels were looked up for."""
        return [version.recorder for version in self._others or ()]

    def _require_label(self, name: str, label: Label) -> None:
        layout = self._reader.layout
        if layout.task == "regression":
            if isinstance(label, (str, bool)) or not abs(label) < float("inf"):
                msg = f"label {label!r} of {name[:80]!r} is not a finite number"
                raise RequestError(msg, code="request.label", hint="nothing was joined")
        elif self._reader.class_of(label) is None:
            known = ", ".join(layout.classes[:8])
            msg = f"label {str(label)[:80]!r} of {name[:80]!r} is no class of the model"
            raise RequestError(
                msg, code="request.label", hint=f"its classes: {known}; nothing was joined"
            )

    def _join_one(self, name: str, label: Label) -> bool:
        if self._own.join(name, label):
            return True
        if self._others is None:
            self._others = list(self._open_others())
        return any(version.join(name, label) for version in self._others)

    def _open_others(self) -> list[_Version]:
        """Open the tables of the versions before; what cannot be opened cannot be joined."""
        found = []
        for path in other_tables(self._directory, self._slot, self._digest)[:MAX_OLDER_VERSIONS]:
            digest = path.stem[len(self._slot) + 1 :]
            try:
                recorder, manifest = self._older(digest)
            except (WhimbrelError, OSError):
                continue
            reader = PredictionReader(manifest, recorder.layout)
            found.append(_Version(recorder, reader, PredictionTable(path, capacity=self._capacity)))
        return found


class _Version:
    """One bundle's predictions and where their labels are counted."""

    def __init__(
        self, recorder: Recorder, reader: PredictionReader, table: PredictionTable
    ) -> None:
        self.recorder = recorder
        self.table = table
        self._reader = reader

    def join(self, name: str, label: Label) -> bool:
        if self._reader.layout.task == "regression":
            if isinstance(label, str):
                return False
            found = self.table.take(name)
            if found is None:
                return False
            window = self.recorder.label_window(found.start_ms)
            window.accumulator.record_error(found.value, float(label), found.slices)
            return True
        actual = self._reader.class_of(label)
        if actual is None:
            return False
        found = self.table.take(name)
        if found is None or found.predicted is None:
            return False
        window = self.recorder.label_window(found.start_ms)
        window.accumulator.record_label(found.score_bin, found.predicted, actual, found.slices)
        return True


def _largest(row: list[float]) -> int | None:
    """Return the index of the largest probability; one number is that of class 1."""
    if len(row) == 1:
        return int(row[0] >= 0.5)  # noqa: PLR2004 - even odds
    return max(range(len(row)), key=row.__getitem__) if row else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
