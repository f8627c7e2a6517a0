"""The converted model in onnxruntime, in a child process: its answers, memory and latency.

A model that crashes the runtime must not take the packager with it, and memory can only be
measured where nothing else is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.conversion import child, hazards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Array = np.ndarray[Any, Any]

MODULE = "whimbrel_packager.conversion.runtime_child"
ENDS = "asking for the ends of integers"
MODEL, RESULT = "model.onnx", "result.json"


class Request(msgspec.Struct, frozen=True):
    """What the child is asked.

    Args:
        inputs: input names.
        outputs: output names.
        batches: files of inputs to run; those that are large, in parts.
        measure: whether to measure memory and latency.
        hazards: whether there is a batch of rows that only must not end the process.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batches: tuple[str, ...]
    measure: bool = True
    hazards: bool = False


class Figures(msgspec.Struct, frozen=True):
    """What was measured: increase of resident memory, and medians of single runs.

    Args:
        memory_bytes: of loading the model and running batches of 1 and 16, with one thread.
        latency_us: median of one row.
        latency_16_us: median of a batch of 16 rows.
        load_ms: until the session stood.
        empty_batch: "" when a batch of no rows gives no rows, else what it gives instead.
        onnxruntime: its version.
        latency_p99_us: 99th percentile of one row.
        rounds: least and largest of the medians of some rounds, by the name of the time.
    """

    memory_bytes: int
    latency_us: float
    latency_16_us: float
    load_ms: float
    empty_batch: str
    onnxruntime: str
    latency_p99_us: float = 0.0
    rounds: dict[str, tuple[float, float]] = {}


class Answers(NamedTuple):
    """Outputs by batch and name, with what was measured."""

    outputs: dict[str, dict[str, Array]]
    figures: Figures


def start(
    model: bytes,
    batches: Mapping[str, Mapping[str, Array]],
    outputs: tuple[str, ...],
    folder: Path,
    limits: child.Limits,
    *,
    measure: bool = True,
    dangerous: Mapping[str, Array] | None = None,
) -> child.Child:
    """Start running ``batches`` (input arrays by name) through a model, measured or not.

    Rows of ``dangerous`` are asked too, and their answers thrown away (`hazards`).
    """
    (folder / MODEL).write_bytes(model)
    names = tuple(next(iter(batches.values())))
    request = Request(names, outputs, tuple(batches), measure, dangerous is not None)
    for batch, arrays in {**batches, **({hazards.BATCH: dangerous} if dangerous else {})}.items():
        plain = {
            f"input_{i}": a.astype(np.str_) if a.dtype == object else a
            for i, a in enumerate(arrays.values())
        }
        np.savez(folder / f"{batch}.npz", **plain)  # type: ignore[arg-type]
    return child.start(MODULE, folder, request, limits)


def collect(
    running: child.Child, folder: Path, what: str, report: Callable[[str], None] | None
) -> Answers:
    """Wait for the answers.

    Raises:
        ConversionError: onnxruntime refuses the model or a batch, or it crashed or hung.
    """
    try:
        running.wait(what, report)
    except ConversionError as error:
        if error.code == "conversion.crash" and running.stage == ENDS:
            raise ConversionError(
                f"{what}: some numbers end the process that serves the model: {error.message}",
                hint="whoever may ask it could stop it; cast integers to float inside the model "
                "before they are divided",
                code="conversion.hazard",
            ) from error
        raise
    request = msgspec.convert(
        msgspec.json.decode((folder / child.REQUEST).read_bytes())["request"], Request
    )
    outputs = {}
    for batch in request.batches:
        with np.load(folder / f"{batch}.out.npz", allow_pickle=False) as held:
            outputs[batch] = {name: held[f"output_{i}"] for i, name in enumerate(request.outputs)}
    figures = msgspec.json.decode((folder / RESULT).read_bytes(), type=Figures)
    return Answers(outputs, figures)
