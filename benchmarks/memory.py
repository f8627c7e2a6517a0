"""Memory of a worker with two models, after it has served: resident, proportional, private.

Read from the kernel's ``smaps_rollup``. Private memory is what a second worker costs: pages that
no other process shares. Run it with ``python -m benchmarks.memory``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._bytecode import keep_bytecode
from tests.support import models
from tests.support.worker import FakeControl, row_request, slot_spec

REQUESTS = 300


def smaps(pid: int) -> dict[str, float]:
    """Return the rollup of a process in MB."""
    values: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        values[name] = int(value.split()[0]) / 1000
    return values


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        first = models.build_bundle(root, models.logistic())
        second = models.build_bundle(root, models.mixed(), name="flights", key=first.key)
        keep_bytecode(root / "bytecode")
        control = FakeControl(root / "data")
        try:
            control.start_worker(slot_spec(first)).kill()  # fills it
            worker = control.start_worker(slot_spec(first), slot_spec(second, "flights"))
            fresh = smaps(worker.process.pid)
            for _ in range(REQUESTS):
                assert control.infer("churn", row_request([[0.1] * 20]))[0] == 200
            used = smaps(worker.process.pid)
        finally:
            control.close()
    print("worker with two models      RSS      PSS   private")
    for name, values in (("ready", fresh), (f"after {REQUESTS} requests", used)):
        private = values["Private_Clean"] + values["Private_Dirty"]
        print(f"{name:22} {values['Rss']:7.1f}  {values['Pss']:7.1f}  {private:7.1f} MB")


if __name__ == "__main__":
    main()
