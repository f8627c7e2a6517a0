"""Time from starting a worker's process to its first answer over HTTP.

Each round starts a new process on a real bundle (logistic regression over 20 features), connects
before it is ready, and stops the clock when the answer to a request has come. Importing numpy
alone, in the same run, says how fast this machine is. Run it with
``python -m benchmarks.cold_start``.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.serving import request_bytes
from tests.support import models
from tests.support.worker import FakeControl, slot_spec


def first_answer_ms(root: Path, made: models.MadeBundle) -> float:
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
        assert answer.startswith(b"HTTP/1.1 200"), answer
        worker.ready()
        return elapsed * 1e3
    finally:
        control.close()


def import_ms(module: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = models.build_bundle(root)
        nothing = [import_ms("sys") for _ in range(options.rounds)]
        numpy = [import_ms("numpy") for _ in range(options.rounds)]
        worker = [first_answer_ms(root / f"data-{i}", made) for i in range(options.rounds)]
    for name, times in (
        ("Python alone", nothing),
        ("Python and numpy", numpy),
        ("worker to its first answer", worker),
    ):
        print(
            f"{name:28} best {min(times):6.0f} ms   median {statistics.median(times):6.0f} ms"
            f"   worst {max(times):6.0f} ms"
        )


if __name__ == "__main__":
    main()
