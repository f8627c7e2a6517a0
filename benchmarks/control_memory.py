"""Memory of the agent's control process, and the time from desired state to serving.

A real agent with a real broker, a repository in a folder and a small model; byte-compiled, as
`make` leaves it. Run: ``python -m benchmarks.control_memory``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from tests.support.agent import DEVICE, RunningAgent
from tests.support.broker import Broker
from tests.support.fleet import FleetEnd
from tests.support.models import build_bundle, logistic
from tests.support.repository import RepositorySimulator

UPDATES = 3
LIMIT_MB = 25.0


def memory_mb(pid: int) -> dict[str, float]:
    """Return RSS, PSS and private memory of a process in MB (10^6 bytes)."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, value = line.partition(":")
        found[key] = int(value.split()[0]) * 1024 / 1e6
    private = found["Private_Clean"] + found["Private_Dirty"]
    return {"rss": found["Rss"], "pss": found["Pss"], "private": private}


def main() -> None:
    # The agent and its processes inherit this: byte code is kept, as on a device.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as temporary:
        folder = Path(temporary)
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder / "pycache"))
        first = build_bundle(folder / "bundles")
        repository = RepositorySimulator(folder / "repository", first.key)
        repository.publish(first)
        broker = Broker(folder / "broker").start()
        end = FleetEnd(broker)
        agent = RunningAgent(folder / "agent", broker, repository)
        times = []
        try:
            agent.start()
            for n in range(1, UPDATES + 2):
                made = first
                if n > 1:
                    made = build_bundle(
                        folder / "bundles",
                        logistic(seed=n),
                        version=f"1.{n}.0",
                        release=n,
                        key=first.key,
                    )
                    repository.publish(made)
                envelope = repository.assignment(DEVICE, n, {"churn": made})
                began = time.perf_counter()
                end.assign(DEVICE, envelope)
                agent.wait_serving(made.digest)
                times.append(time.perf_counter() - began)
            for k in range(50):
                agent.infer(16, timestamp=1_700_000_000_000 + k * 300_000)
            agent.stop()
            agent.start()
            agent.wait_for(lambda: agent.status()["worker"]["pid"])
            assert agent.process is not None
            control = memory_mb(agent.process.pid)
            worker = memory_mb(agent.status()["worker"]["pid"])
        finally:
            agent.stop()
            end.close()
            broker.close()
    print(f"Python {sys.version.split()[0]}, one slot, connected to a fleet")
    print(f"{'process':<10}{'RSS MB':>10}{'PSS MB':>10}{'private MB':>12}")
    for name, found in (("control", control), ("worker", worker)):
        print(f"{name:<10}{found['rss']:>10.1f}{found['pss']:>10.1f}{found['private']:>12.1f}")
    shown = ", ".join(f"{t:.2f}" for t in times[1:])
    print(f"desired state to serving: first (with byte-compiling) {times[0]:.2f} s, then {shown} s")
    print(
        f"control's limit: {LIMIT_MB:g} MB PSS: {'held' if control['pss'] <= LIMIT_MB else 'BROKEN'}"
    )


if __name__ == "__main__":
    main()
