"""The child process in which a model is made smaller; see `whimbrel_packager.smaller.optimise`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.conversion import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

PLAIN = "plain.onnx"
MODEL, PREDECESSOR, CALIBRATION, SMALLER = (
    "model.onnx",
    "predecessor.onnx",
    "rows.npz",
    "small.onnx",
)
_BATCH = 32


class Request(msgspec.Struct, frozen=True):
    """What is to be done to ``model.onnx``.

    Args:
        precision: "float32" changes no weights.
        graph: level of the graph's optimisation.
        inputs: input names; ``rows.npz`` holds them as ``input_0``, …
    """

    precision: str
    graph: str
    inputs: tuple[str, ...] = ()


def work(request: Request, folder: Path, stage: Callable[[str], None]) -> None:
    """Leave the smaller model as ``small.onnx``."""
    import onnx

    from whimbrel_packager.conversion import canonical
    from whimbrel_packager.smaller import smaller
    from whimbrel_packager.sources.foreign import quiet, reason

    proto = onnx.load(folder / MODEL)
    try:
        if request.precision != "float32":
            stage(f"converting to {request.precision}")
            with quiet():
                proto = _converted(proto, request, folder)
        if request.graph != "none":
            stage("optimising the graph")
            onnx.save(proto, folder / PLAIN)
            proto = smaller.optimised(folder / PLAIN, folder / "optimised.onnx", request.graph)
    except (ConversionError, MemoryError):
        raise
    except Exception as error:
        raise ConversionError(
            f"{request.precision} with graph = {request.graph!r} does not work for this model: "
            f"{reason(error)}",
            hint="leave [optimise] out, or choose another precision",
        ) from error
    smaller.tidy(proto)
    (folder / SMALLER).write_bytes(canonical.canonicalise(proto))


def _converted(proto: Proto, request: Request, folder: Path) -> Proto:
    import onnx

    from whimbrel_packager.smaller import smaller

    if request.precision == "float16":
        return smaller.float16(proto)
    old = folder / PREDECESSOR
    static = request.precision == "int8-static"
    return smaller.int8(
        proto,
        folder,
        calibration=_batches(folder, request.inputs) if static else None,
        scales=smaller.scales_of(onnx.load(old)) if old.exists() else {},
    )


def _batches(folder: Path, names: tuple[str, ...]) -> list[dict[str, Array]]:
    with np.load(folder / CALIBRATION, allow_pickle=False) as held:
        arrays = {name: held[f"input_{i}"] for i, name in enumerate(names)}
    arrays = {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items()}
    rows = len(next(iter(arrays.values())))
    return [
        {name: array[at : at + _BATCH] for name, array in arrays.items()}
        for at in range(0, rows, _BATCH)
    ]


if __name__ == "__main__":
    child.main(Request, work)
