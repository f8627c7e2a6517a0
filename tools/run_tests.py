"""Run every tier of tests that this machine can run, and name those that it cannot.

`make test` calls it in the environment of the tests. Debian's packages that tests need are
installed where that is allowed (root and apt-get), the tiers run on this Python, then core's and
agent's unit tests on Python 3.10, where one is installed. The last lines name every tier and
test that did not run, with the reason. The exit code is 0 only when nothing failed that was to
run; a program that could not be installed where it was allowed counts as a failure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("core", "packager", "agent", "server", "integration", "e2e")
DEVICE_TIERS = ("core", "agent")
DEVICE_VENV = ROOT / ".venv-3.10"
# Program that a test looks for, and Debian's package that has it.
PROGRAMS = {"mosquitto": "mosquitto", "chromium": "chromium", "curl": "curl"}
INTERRUPTED = 2


class Outcome(NamedTuple):
    """How one step ended: an exit code, and what it left out with the reasons."""

    code: int
    not_run: tuple[str, ...]


def main(arguments: list[str]) -> int:
    """Run the steps one after the other and sum them up."""
    os.environ["PATH"] = _search_path()
    outcomes = [_debian(), _this_python(arguments)]
    if arguments:
        chosen = f"what is outside the choice {' '.join(arguments)!r}, and Python 3.10"
        outcomes.append(Outcome(0, (f"{chosen}: ARGS left them out",)))
    elif outcomes[-1].code == INTERRUPTED:
        outcomes.append(Outcome(0, ("Python 3.10: interrupted",)))
    else:
        outcomes.append(_device_python())
    not_run = [line for outcome in outcomes for line in outcome.not_run]
    print()
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


def _this_python(arguments: list[str]) -> Outcome:
    """Run all tiers, or the chosen tests, in one session, so that one line counts them."""
    code, found = _pytest([sys.executable], arguments or [str(ROOT / "tests")])
    ran = found.get("ran", {})
    expected = () if arguments else TIERS
    empty = [f"tests/{tier}: no test of it ran" for tier in expected if tier not in ran]
    return Outcome(code, (*found.get("not_run", ()), *empty))


def _device_python() -> Outcome:
    """Run core's and agent's unit tests on the oldest Python that a device may have."""
    name = "Python 3.10 (core and agent)"
    python = _find_device_python()
    if python is None:
        return Outcome(0, (f"{name}: no python3.10 is installed",))
    setup = [python, str(ROOT / "tools/environment.py"), "device", "--venv", str(DEVICE_VENV)]
    if subprocess.run(setup, check=False).returncode != 0:
        return Outcome(1, (f"{name}: its environment could not be made",))
    folders = [
        str(ROOT / "tests" / tier) for tier in DEVICE_TIERS if (ROOT / "tests" / tier).is_dir()
    ]
    code, found = _pytest([str(DEVICE_VENV / "bin/python")], folders, quiet=True)
    return Outcome(code, tuple(f"{name}: {line}" for line in found.get("not_run", ())))


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


def _pytest(
    python: list[str], what: list[str], *, quiet: bool = False
) -> tuple[int, dict[str, dict[str, int] | list[str]]]:
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
