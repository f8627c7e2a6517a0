"""Time from starting a worker's process to its first answer over HTTP.

Each round starts a new process on a real bundle (logistic regression over 20 features), connects
before it is ready, and stops the clock when the answer to a request has come. Importing numpy
alone, in the same run, says how fast this machine is, and CPU time how much of the time was spent
and not waited: on a busy machine, compare that. Packages are byte-compiled, as ``pip`` leaves
them. Run it with ``python -m benchmarks.cold_start``.
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._bytecode import keep_bytecode
from benchmarks.serving import cpu_us, request_bytes
from tests.support import models
from tests.support.worker import FakeControl, slot_spec


def first_answer_ms(root: Path, made: models.MadeBundle) -> tuple[float, float]:
    """Return wall and CPU time of one cold start."""
    control = FakeControl(root)
    try:
        request = request_bytes(1, 20)
        started = time.perf_counter()
        worker = control.start_worker(slot_spec(made), ready=False)
        # The listening socket is control's: the connection waits in its queue.
        with socket.create_connection(("127.0.0.1", control.port)) as link:
            link.sendall(request)
            answer = link.recv(65536)
        elapsed = time.perf_counter() - started
        spent_us = cpu_us(worker.process.pid)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        worker.ready()
        return elapsed * 1e3, spent_us / 1e3
    finally:
        control.close()


def import_ms(module: str) -> tuple[float, float]:
    """Return wall and CPU time of a process that imports ``module``."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return elapsed * 1e3, spent * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        keep_bytecode(root / "bytecode")
        made = models.build_bundle(root)
        first_answer_ms(root / "data-first", made)
        nothing = [import_ms("sys") for _ in range(options.rounds)]
        numpy = [import_ms("numpy") for _ in range(options.rounds)]
        worker = [first_answer_ms(root / f"data-{i}", made) for i in range(options.rounds)]
    for name, times in (
        ("Python alone", nothing),
        ("Python and numpy", numpy),
        ("worker to its first answer", worker),
    ):
        wall, spent = zip(*times, strict=True)
        print(
            f"{name:28} best {min(wall):6.0f} ms   median {statistics.median(wall):6.0f} ms"
            f"   worst {max(wall):6.0f} ms   CPU, best {min(spent):6.0f} ms"
        )


if __name__ == "__main__":
    main()
