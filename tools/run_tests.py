"""Run every tier of tests that this machine can run, and name those that it cannot.

`make test` calls it in the environment of the tests. Debian's packages that tests need are
installed where that is allowed (root and apt-get). Then run, each in a session of its own:

1. the tiers of single parts, on all cores;
2. whole systems, two at a time at most, since each test starts many processes;
3. the demo, alone, as a person runs it;
4. what needs PyTorch and Keras, in an environment of their own;
5. core's and agent's unit tests on Python 3.10, where one is installed.

The last lines count the tests, and name every tier and test that did not run, with the reason.
The exit code is 0 only when nothing failed that was to run; a program that could not be installed
where it was allowed counts as a failure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("core", "packager", "agent", "server", "docs", "workspace")
WHOLE_TIERS = ("integration",)
LAST_TIERS = ("e2e",)
NETWORK_TIER = "networks"
DEVICE_TIERS = ("core", "agent")
DEVICE_VENV = ROOT / ".venv-3.10"
NETWORK_VENV = ROOT / ".venv-networks"
ENVIRONMENT = str(ROOT / "tools/environment.py")
# Each process begins with a part of its own, in the order of the tiers, so that what a file's tests
# share is made once; one that has nothing left takes over from another.
SIDE_BY_SIDE = ("--dist=worksteal",)
# Program that a test looks for, and Debian's package that has it.
PROGRAMS = {
    "mosquitto": "mosquitto",
    "chromium": "chromium",
    "curl": "curl",
    "git": "git",
    "softhsm2-util": "softhsm2",
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
}
INTERRUPTED = 2


class Found(TypedDict, total=False):
    """What `tests/support/tiers.py` reports."""

    ran: dict[str, int]
    counts: dict[str, int]
    not_run: list[str]


class Outcome(NamedTuple):
    """How one step ended: an exit code, what it left out with the reasons, and its tests."""

    code: int
    not_run: tuple[str, ...]
    counts: Mapping[str, int] = {}


def main(arguments: list[str]) -> int:
    """Run the steps one after the other and sum them up."""
    os.environ["PATH"] = _search_path()
    outcomes = [_debian()]
    if arguments:
        outcomes.append(_chosen(arguments))
        what = f"what is outside the choice {' '.join(arguments)!r}, and other environments"
        outcomes.append(Outcome(0, (f"{what}: ARGS left them out",)))
    else:
        for step in (_side_by_side, _whole, _last, _networks, _device_python):
            outcomes.append(step())
            if outcomes[-1].code == INTERRUPTED:
                outcomes.append(Outcome(0, ("all that comes after this: interrupted",)))
                break
    print()
    counts = Counter[str]()
    for outcome in outcomes:
        counts.update(outcome.counts)
    if counts:
        print(", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "skipped")))
    not_run = [line for outcome in outcomes for line in outcome.not_run]
    for line in not_run:
        print(f"did not run: {line}")
    if not not_run:
        print("every tier ran, on every Python asked for")
    return max(outcome.code for outcome in outcomes)


def _search_path() -> str:
    """Return a PATH with this environment first, and with the places of daemons."""
    own = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    daemons = ("/usr/local/sbin", "/usr/sbin", "/sbin")
    return os.pathsep.join([own, *path, *(d for d in daemons if d not in path)])


def _debian() -> Outcome:
    """Install what the tests need of Debian, or print the one command that would."""
    missing = [name for program, name in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return Outcome(0, ())
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        # What needs them is named at the end by the tests themselves.
        print("some tests need programs that are not here; this would install them:")
        print(f"  sudo {' '.join(command)}")
        return Outcome(0, ())
    print(f"installing Debian's {', '.join(missing)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(step, check=False, env=environment, capture_output=True, text=True)
    still = [name for program, name in PROGRAMS.items() if shutil.which(program) is None]
    if still:
        print(done.stdout[-2000:] + done.stderr[-2000:])
        return Outcome(1, (f"what needs {', '.join(still)}: apt-get could not install it",))
    return Outcome(0, ())


def _chosen(arguments: list[str]) -> Outcome:
    """Run the chosen tests, in one session."""
    code, found = _pytest([sys.executable], arguments)
    return _outcome(code, found)


def _side_by_side() -> Outcome:
    """Run the quick tiers on all cores."""
    return _tiers(_quick_tiers(), _workers(8))


def _whole() -> Outcome:
    """Run the tiers that start whole systems; they wait more than they work."""
    threading.Thread(target=_prepare, daemon=True).start()
    return _tiers(WHOLE_TIERS, _workers(2))


def _prepare() -> None:
    """Set up the environments of later steps, which will ask for them again and say what failed."""
    for command in (_set_up_networks(), _set_up_device()):
        if command:
            subprocess.run(["nice", *command], check=False, capture_output=True)


def _last() -> Outcome:
    """Run what is to have the machine for itself."""
    return _tiers(LAST_TIERS, [])


def _workers(most: int, waiting: int = 0) -> list[str]:
    """Return pytest's options for as many processes as there are cores, up to ``most``.

    Args:
        most: processes.
        waiting: so many more than cores.
    """
    count = min(len(os.sched_getaffinity(0)) + waiting, most)
    return [f"--numprocesses={count}", *SIDE_BY_SIDE] if count > 1 else []


def _tiers(tiers: Sequence[str], options: list[str]) -> Outcome:
    folders = [str(ROOT / "tests" / tier) for tier in tiers]
    code, found = _pytest([sys.executable], [*options, *folders])
    ran = found.get("ran", {})
    empty = [f"tests/{tier}: no test of it ran" for tier in tiers if tier not in ran]
    return _outcome(code, found, *empty)


def _quick_tiers() -> list[str]:
    """Return the tiers that have to be there, then whatever folders are new."""
    there = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    others = there - {*TIERS, *WHOLE_TIERS, *LAST_TIERS, NETWORK_TIER, "support"}
    return [*TIERS, *sorted(others)]


def _networks() -> Outcome:
    """Run what needs PyTorch and Keras: a gigabyte each, and in nobody's way here."""
    if subprocess.run(_set_up_networks(), check=False).returncode != 0:
        return Outcome(1, ("tests/networks: the environment could not be made",))
    folder = str(ROOT / "tests" / NETWORK_TIER)
    code, found = _pytest([str(NETWORK_VENV / "bin/python")], [*_workers(2), folder])
    return _outcome(code, found)


def _device_python() -> Outcome:
    """Run core's and agent's unit tests on the oldest Python that a device may have."""
    name = "Python 3.10 (core and agent)"
    setup = _set_up_device()
    if not setup:
        return Outcome(0, (f"{name}: no python3.10 is installed",))
    if subprocess.run(setup, check=False).returncode != 0:
        return Outcome(1, (f"{name}: its environment could not be made",))
    folders = [
        str(ROOT / "tests" / tier) for tier in DEVICE_TIERS if (ROOT / "tests" / tier).is_dir()
    ]
    # One more than cores: whole agents are waited for, while others have something to do.
    options = _workers(8, waiting=1)
    code, found = _pytest([str(DEVICE_VENV / "bin/python")], [*options, *folders], quiet=True)
    outcome = _outcome(code, found)
    return outcome._replace(not_run=tuple(f"{name}: {line}" for line in outcome.not_run))


def _set_up_networks() -> list[str]:
    return [sys.executable, ENVIRONMENT, "networks", "--venv", str(NETWORK_VENV)]


def _set_up_device() -> list[str]:
    """Return the command; nothing without a Python 3.10."""
    python = _find_device_python()
    return [python, ENVIRONMENT, "device", "--venv", str(DEVICE_VENV)] if python else []


def _outcome(code: int, found: Found, *not_run: str) -> Outcome:
    return Outcome(code, (*found.get("not_run", ()), *not_run), found.get("counts", {}))


def _find_device_python() -> str | None:
    """Return a Python 3.10 that starts: on PATH, or among pyenv's and uv's."""
    homes = [
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions",
        Path.home() / ".local/share/uv/python",
    ]
    patterns = ("3.10*/bin/python3.10", "cpython-3.10*/bin/python3.10")
    candidates = [os.environ.get("PYTHON310"), shutil.which("python3.10")]
    candidates += [str(found) for home in homes for p in patterns for found in home.glob(p)]
    asks = "import sys; sys.exit(sys.version_info[:2] != (3, 10))"
    for candidate in candidates:
        # pyenv's shim is on PATH even where it cannot start anything.
        if candidate and shutil.which(candidate):
            tried = subprocess.run([candidate, "-c", asks], check=False, capture_output=True)
            if tried.returncode == 0:
                return candidate
    return None


def _pytest(python: list[str], what: list[str], *, quiet: bool = False) -> tuple[int, Found]:
    """Run pytest; return its exit code, and what it says about tiers.

    A quiet run prints one line, and everything when it failed: the closing line of pytest that a
    reader looks for is the one of the full run.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "not-run.json")
        command = [*python, "-m", "pytest", f"--not-run={report}", *what]
        path = os.pathsep.join([str(Path(python[0]).parent), os.environ["PATH"]])
        done = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        if quiet:
            _sum_up(done)
        # A signal is a negative number here, and would be less than a success.
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        try:
            return code, json.loads(report.read_text())
        except (OSError, ValueError):
            # Killed, or stopped before its end: an exit code of 0 would be a lie.
            return code or 1, {"not_run": ["what pytest had not come to when it stopped"]}


def _sum_up(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        print(done.stdout)
        return
    counts = re.findall(r"^=+ (.* in [\d.]+s.*?) =+$", done.stdout, re.MULTILINE)
    print(f"core and agent on Python 3.10: {counts[-1] if counts else 'passed'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
