"""Inference responses: everything that a model's answers have in common is encoded once.

Most requests carry one row, and answers to them differ in their data alone: those are put into a
text that is ready.

Numbers are written so that reading them back gives the same float32 or float64. JSON has no NaN
and no infinity: both are ``null``.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.bundle.manifest import Manifest

_encode = msgspec.json.Encoder().encode
_shape = attrgetter("shape")


class _OutputTemplate:
    """The JSON of one output around its number of rows and its data."""

    def __init__(self, name: str, datatype: str, tail: tuple[int, ...]) -> None:
        self._start = b'{"name":%s,"datatype":%s,"shape":[' % (_encode(name), _encode(datatype))
        self._fixed = all(size > 0 for size in tail)
        self._tail = _dimensions(tail)
        self._single = self._start + b"1" + self._tail
        self.single_shape = (1, *tail) if self._fixed else None

    @property
    def single(self) -> bytes:
        """The output of one row, up to its data."""
        return self._single

    def head(self, array: NDArray[Any]) -> bytes:
        rows = array.shape[0]
        if rows == 1 and self._fixed:
            return self._single
        tail = self._tail if self._fixed else _dimensions(array.shape[1:])
        return b"%b%d%b" % (self._start, rows, tail)


class ResponseTemplate:
    """Renders the outputs of one served model.

    Args:
        slot: the name in the URL, which is what a caller knows the model by.
        manifest: version and outputs.
    """

    def __init__(self, slot: str, manifest: Manifest) -> None:
        self._start = b'{"model_name":%s,"model_version":%s' % (
            _encode(slot),
            _encode(manifest.version),
        )
        self._plain = self._start + b',"outputs":['
        self._outputs = {
            output.name: _OutputTemplate(output.name, output.datatype, tuple(output.shape[1:]))
            for output in manifest.outputs
        }
        self._ordered = tuple(self._outputs.values())
        self._names = tuple(self._outputs)
        self._single_shapes = [template.single_shape for template in self._ordered]
        single = b"},".join(
            template.single.replace(b"%", b"%%") + b"%b" for template in self._ordered
        )
        self._single = self._plain.replace(b"%", b"%%") + single + b"}]}"

    def render(
        self,
        outputs: list[NDArray[Any]],
        values: list[list[Any]],
        request_id: str | None,
        chosen: tuple[str, ...] | None,
    ) -> bytes:
        """Return the JSON body.

        Args:
            outputs: every output in the manifest's order, (rows, …).
            values: their values, flat.
            request_id: echoed when given.
            chosen: names of the outputs asked for; None for all.
        """
        plain = request_id is None and chosen is None
        if plain and list(map(_shape, outputs)) == self._single_shapes:
            return self._single % tuple(map(_encode, values))
        parts = [
            self._plain
            if request_id is None
            else b'%b,"id":%b,"outputs":[' % (self._start, _encode(request_id))
        ]
        templates = self._ordered
        if chosen is not None:
            places = [self._names.index(name) for name in chosen]
            outputs = [outputs[place] for place in places]
            values = [values[place] for place in places]
            templates = tuple(self._outputs[name] for name in chosen)
        end = b"}"
        for template, array, numbers in zip(templates, outputs, values, strict=True):
            parts.append(template.head(array))
            parts.append(_encode(numbers))
            parts.append(b"},")
            end = b"}]}"
        if end == b"}]}":
            parts[-1] = end
        else:
            parts.append(b"]}")
        return b"".join(parts)


def _dimensions(tail: tuple[int, ...]) -> bytes:
    return b"".join(b",%d" % size for size in tail) + b'],"data":'
