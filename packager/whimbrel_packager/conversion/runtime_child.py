"""The runtime's child process; see `whimbrel_packager.conversion.runtime`."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import re
import selectors
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.conversion import child, hazards, runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]
    Session = Any  # onnxruntime ships no types

_BUDGET_S = 0.25
_MAX_RUNS = 300
_MAX_LOADS = 4
_ROUNDS = 5
_EMPTY_S = 10.0
_PART = 10_000  # rows
_MAX_THREADS = 4


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

    one: list[float] = []
    sixteen: list[float] = []
    memory, loads_ms = 0, [load_ms]
    if request.measure:
        stage("measuring memory and latency")
        one = _times_us(run, {name: array[:1] for name, array in first.items()})
        sixteen = _times_us(
            run, {name: np.resize(a, (16, *a.shape[1:])) for name, a in first.items()}
        )
        memory = _resident_bytes() - before
        if load_ms < _BUDGET_S * 1e3:  # of a longer one the disk's part is small
            loads_ms += _loads_ms(
                lambda: ort.InferenceSession(
                    str(folder / runtime.MODEL), options, providers=["CPUExecutionProvider"]
                )
            )

    stage("running the parity corpus")
    for batch, rows in batches.items():
        outputs = _in_parts(run, rows, lambda done: stage(f"running the model: {done}"))
        plain = {
            f"output_{i}": a.astype(np.str_) if a.dtype == object else a
            for i, a in enumerate(outputs)
        }
        np.savez(folder / f"{batch}.out.npz", **plain)  # type: ignore[arg-type]
    if request.hazards:
        stage(runtime.ENDS)
        _survive(session, names, _load(folder / f"{hazards.BATCH}.npz", request.inputs))
    figures = runtime.Figures(
        memory_bytes=max(memory, 0),
        latency_us=round(_median(one), 1),
        latency_16_us=round(_median(sixteen), 1),
        load_ms=round(_median(loads_ms), 2),
        empty_batch=_empty(session, names, first) if request.measure else "",
        onnxruntime=ort.__version__,
        latency_p99_us=round(float(np.quantile(one, 0.99)), 1) if one else 0.0,
        rounds={
            "latency_us": _spread(one),
            "latency_16_us": _spread(sixteen),
            "load_ms": _spread(loads_ms, 2),
        },
    )
    (folder / runtime.RESULT).write_bytes(msgspec.json.encode(figures))


def _in_parts(
    run: Callable[[dict[str, Array]], list[Array]],
    rows: dict[str, Array],
    told: Callable[[str], None],
) -> list[Array]:
    """Return a batch's outputs; a large one is run in parts, side by side, and can be seen to go on.

    Parts are of one size on every machine, and each is one thread's: equal models and rows give
    equal bits whatever the number of cores.
    """
    total = len(next(iter(rows.values())))
    if total <= _PART:
        return run(rows)
    starts = range(0, total, _PART)
    parts = []
    with ThreadPoolExecutor(min(_MAX_THREADS, len(os.sched_getaffinity(0)))) as pool:
        made = pool.map(
            run,
            ({name: a[at : at + _PART] for name, a in rows.items()} for at in starts),
        )
        for start in starts:
            told(f"{start:,} of {total:,} rows")
            parts.append(next(made))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _survive(session: Session, names: list[str], rows: dict[str, Array]) -> None:
    """Ask for all rows, and one by one where the runtime refuses any; answers do not matter."""
    with contextlib.suppress(Exception):
        session.run(names, rows)
        return
    for row in range(len(next(iter(rows.values())))):
        with contextlib.suppress(Exception):
            session.run(names, {name: array[row : row + 1] for name, array in rows.items()})


def _empty(session: Session, names: list[str], rows: dict[str, Array]) -> str:
    """Ask for no rows in a process of its own: recurrent layers abort the runtime's process."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        faulthandler.disable()  # a crash is a finding here
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            os.write(writer, _asked_for_nothing(session, names, rows).encode() + b".")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers, selectors.DefaultSelector() as selector:
        selector.register(answers, selectors.EVENT_READ)
        said = answers.read() if selector.select(_EMPTY_S) else b""
    if not said:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if said:
        return said[:-1].decode()
    how = os.waitstatus_to_exitcode(status)
    return "hangs the runtime" if how == -signal.SIGKILL else "crashes the runtime"


def _asked_for_nothing(session: Session, names: list[str], rows: dict[str, Array]) -> str:
    try:
        outputs = session.run(names, {name: array[:0] for name, array in rows.items()})
    except Exception as error:  # noqa: BLE001 - whatever the runtime says is the finding
        return f"refused: {' '.join(str(error).split())[:200]}"
    odd = [f"{n} {a.shape}" for n, a in zip(names, outputs, strict=True) if len(a)]
    return f"answers with rows: {', '.join(odd)}" if odd else ""


def _times_us(
    run: Callable[[dict[str, Array]], list[Array]], rows: dict[str, Array]
) -> list[float]:
    run(rows)
    times: list[float] = []
    end = time.perf_counter() + _BUDGET_S
    while len(times) < _MAX_RUNS and time.perf_counter() < end:
        started = time.perf_counter()
        run(rows)
        times.append((time.perf_counter() - started) * 1e6)
    return times


def _loads_ms(load: Callable[[], object]) -> list[float]:
    """Load again a few times, unless that takes long; the first time also reads the disk."""
    times: list[float] = []
    end = time.perf_counter() + _BUDGET_S / 2
    while len(times) < _MAX_LOADS and time.perf_counter() < end:
        started = time.perf_counter()
        load()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def _median(times: list[float]) -> float:
    return statistics.median(times) if times else 0.0


def _spread(times: list[float], digits: int = 1) -> tuple[float, float]:
    """Return the least and the largest of the medians of some rounds."""
    rounds = [_median(part.tolist()) for part in np.array_split(times, _ROUNDS) if len(part)]
    return (round(min(rounds), digits), round(max(rounds), digits)) if rounds else (0.0, 0.0)


def _load(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[f"input_{i}"] for i, name in enumerate(names)}
    return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items()}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _refusal(what: str, error: Exception) -> ConversionError:
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    # Paths of this build machine help nobody.
    text = re.sub(r"Load model from \S+ failed: ?|\S*onnxruntime_src\S* ?", "", text)
    unknown = re.search(r"([\w.]+):(\w+)\(-?\d+\) is not a registered function", text)
    if unknown:
        text = f"it has no operator {unknown.group(2)} of {unknown.group(1)}"
    return ConversionError(
        f"onnxruntime {what}: {text[:300]}",
        hint="export it for an operator set of 20 and below",
        code="conversion.runtime",
    )


if __name__ == "__main__":
    child.main(runtime.Request, work)
