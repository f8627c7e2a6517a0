"""The runtime's child process; see `whimbrel_packager.runtime`."""

from __future__ import annotations

import gc
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager import child, runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]
    Session = Any  # onnxruntime ships no types

_BUDGET_S = 0.25
_MAX_RUNS = 300


def work(request: runtime.Request, folder: Path, stage: Callable[[str], None]) -> None:
    """Load the model, measure it, and answer the batches."""
    import onnxruntime as ort

    stage("loading into onnxruntime")
    batches = {name: _load(folder / f"{name}.npz", request.inputs) for name in request.batches}
    first = next(iter(batches.values()))
    options = ort.SessionOptions()
    # As an agent runs it.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    gc.collect()
    before = _resident_bytes()
    started = time.perf_counter()
    try:
        session = ort.InferenceSession(
            str(folder / runtime.MODEL), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise _refusal("refuses the model", error) from error
    load_ms = (time.perf_counter() - started) * 1e3
    names = list(request.outputs)

    def run(rows: dict[str, Array]) -> list[Array]:
        try:
            answers: list[Array] = session.run(names, rows)
        except Exception as error:
            raise _refusal("cannot run the model", error) from error
        return answers

    stage("measuring memory and latency")
    latency = _median_us(run, {name: array[:1] for name, array in first.items()})
    latency_16 = _median_us(
        run, {name: np.resize(a, (16, *a.shape[1:])) for name, a in first.items()}
    )
    memory = _resident_bytes() - before

    stage("running the parity corpus")
    for batch, rows in batches.items():
        outputs = run(rows)
        plain = {
            f"output_{i}": a.astype(np.str_) if a.dtype == object else a
            for i, a in enumerate(outputs)
        }
        np.savez(folder / f"{batch}.out.npz", **plain)  # type: ignore[arg-type]
    figures = runtime.Figures(
        memory_bytes=max(memory, 0),
        latency_us=round(latency, 1),
        latency_16_us=round(latency_16, 1),
        load_ms=round(load_ms, 2),
        empty_batch=_empty(session, names, first),
        onnxruntime=ort.__version__,
    )
    (folder / runtime.RESULT).write_bytes(msgspec.json.encode(figures))


def _empty(session: Session, names: list[str], rows: dict[str, Array]) -> str:
    try:
        outputs = session.run(names, {name: array[:0] for name, array in rows.items()})
    except Exception as error:  # noqa: BLE001 - whatever the runtime says is the finding
        return f"refused: {' '.join(str(error).split())[:200]}"
    odd = [f"{n} {a.shape}" for n, a in zip(names, outputs, strict=True) if len(a)]
    return f"answers with rows: {', '.join(odd)}" if odd else ""


def _median_us(run: Callable[[dict[str, Array]], list[Array]], rows: dict[str, Array]) -> float:
    run(rows)
    times: list[float] = []
    end = time.perf_counter() + _BUDGET_S
    while len(times) < _MAX_RUNS and time.perf_counter() < end:
        started = time.perf_counter()
        run(rows)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def _load(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[f"input_{i}"] for i, name in enumerate(names)}
    return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items()}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _refusal(what: str, error: Exception) -> ConversionError:
    text = " ".join(str(error).split())[:300]
    return ConversionError(
        f"onnxruntime {what}: {text}", hint="export it for an operator set of 20 and below"
    )


if __name__ == "__main__":
    child.main(runtime.Request, work)
