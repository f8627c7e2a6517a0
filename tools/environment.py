"""Make an environment from the pinned requirements, once.

Run by `make` with any Python that is new enough; the standard library is all it needs::

    python3 tools/environment.py run       what the demo needs         (.venv)
    python3 tools/environment.py dev       and what the tests need     (.venv)
    python3 tools/environment.py device    core and agent on 3.10      (.venv-3.10)
    python3 tools/environment.py networks  the packager, PyTorch, Keras (.venv-networks)
    python3 tools/environment.py fuzz      core and its fuzzer         (.venv-fuzz)
    python3 tools/environment.py peers     what benchmarks compare us with  (.venv-peers)

Rules. An environment without its stamp is not believed: the stamp goes before the first change
and comes back after the last, so an interrupted set-up is made again from nothing. Two set-ups
of one environment wait for each other. Nothing is set up again while the pins stay the same.
Nothing is fetched that is not pinned by hash (but `Kind.unhashed`): the build tools come first, and
the rest is built with those. uv installs when it can, in half of pip's time; where pip has an index or a proxy of
its own, or uv fails, pip installs the same pins.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
STAMP = "whimbrel-setup.json"
PIP_KEYS_UV_DOES_NOT_READ = {"index-url", "no-index", "proxy"}


class Kind(NamedTuple):
    """One kind of environment: its pins, its parts and the oldest Python it works with."""

    name: str
    parts: tuple[str, ...]
    python: tuple[int, int]
    contains: tuple[str, ...]  # kinds whose pins are a subset, so that nothing is made again
    # Pinned by version alone: the build for CPUs is another file than the index's default one,
    # so that no single hash fits. All that it depends on is among the pins.
    unhashed: tuple[str, ...] = ()

    @property
    def pins(self) -> tuple[Path, Path]:
        """The lock files, in the order of installation."""
        return ROOT / "requirements/build.txt", ROOT / f"requirements/{self.name}.txt"


ALL = ("core", "agent", "packager", "server")
KINDS = {
    "run": Kind("run", ALL, (3, 11), ("run",)),
    "dev": Kind("dev", ALL, (3, 11), ("run", "dev")),
    "device": Kind("device", ("core", "agent"), (3, 10), ("device",)),
    "networks": Kind(
        "networks",
        ("core", "agent", "packager"),
        (3, 11),
        ("networks",),
        unhashed=("torch==2.13.0",),
    ),
    "fuzz": Kind("fuzz", ("core",), (3, 11), ("fuzz",)),
    "peers": Kind("peers", (), (3, 11), ("peers",)),
}


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


def main() -> int:
    """Set up one environment, or say why not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where (%(default)s)")
    arguments = parser.parse_args()
    venv = Path(os.path.abspath(arguments.venv))  # noqa: PTH100 - a link at the end is kept
    try:
        ensure(KINDS[arguments.kind], venv)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next run sets up from the beginning", file=sys.stderr)
        return 130
    return 0


def ensure(kind: Kind, venv: Path) -> None:
    """Make ``venv`` hold ``kind``; return at once where it already does.

    Raises:
        SetupError: nothing believes the environment until a later set-up has ended well.
    """
    if sys.version_info < kind.python:
        need = ".".join(map(str, kind.python))
        _fail(f"Python {need} or newer is needed, and {sys.executable} is {_version()}")
    if _state(kind, venv)[0] == "complete":
        return
    with _alone(venv):
        state, kind = _state(kind, venv)  # somebody else may have ended it meanwhile
        if state == "complete":
            return
        started = time.monotonic()
        (venv / STAMP).unlink(missing_ok=True)
        if state == "absent":
            _create(venv)
        if state in {"absent", "older"}:
            _install_pins(kind, venv)
        _install_parts(kind, venv)
        _write_stamp(kind, venv)
        _say(f"done in {time.monotonic() - started:.0f} s")


def _state(kind: Kind, venv: Path) -> tuple[str, Kind]:
    """Return what is there, and which kind it is to become.

    ========  ========================================================================
    complete  nothing is to be done
    parts     the pins are installed, but the parts have changed since
    older     complete once, with other pins or fewer; what changed is put over it
    absent    nothing, or nothing that can be believed
    ========  ========================================================================
    """
    try:
        stamp = json.loads((venv / STAMP).read_text())
        held = KINDS[stamp["kind"]]
        place = {"root": stamp["root"], "venv": stamp["venv"]}
        pins, parts = stamp["pins"], stamp["parts"]
    except (OSError, ValueError, LookupError, TypeError):
        return "absent", kind
    # What was there goes on being there: the demo does not take the tests' tools away.
    whole = held if kind.name in held.contains else kind
    if held.name not in whole.contains or place != _place(venv) or not _works(venv):
        return "absent", kind
    if whole != held or pins != _pins(held):
        return "older", whole
    return ("complete" if parts == _parts(held) else "parts"), whole


def _place(venv: Path) -> dict[str, str]:
    """Return where it belongs: scripts in an environment name their interpreter by its path."""
    return {"root": str(ROOT), "venv": str(venv)}


def _pins(kind: Kind) -> dict[str, str]:
    return {path.name: _digest([path]) for path in kind.pins}


def _parts(kind: Kind) -> str:
    """Return a digest of what asks for a new installation in place: entry points, versions."""
    return _digest([ROOT / part / "pyproject.toml" for part in kind.parts])


def _write_stamp(kind: Kind, venv: Path) -> None:
    stamp = {"kind": kind.name, "pins": _pins(kind), "parts": _parts(kind), **_place(venv)}
    fresh = venv / f"{STAMP}.new"
    fresh.write_text(json.dumps(stamp, indent=1) + "\n")
    fresh.replace(venv / STAMP)


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _works(venv: Path) -> bool:
    """Whether the interpreter still starts and finds what was built for it."""
    try:
        tried = subprocess.run(
            [_python(venv), "-I", "-c", "import msgspec"], check=False, capture_output=True
        )
    except OSError:
        return False
    return tried.returncode == 0


def _create(venv: Path) -> None:
    _need_venv_module()
    # Not the environment that this script may itself run in: that is what is replaced.
    base = str(getattr(sys, "_base_executable", sys.executable))
    _say(f"creating {venv.name} with Python {_version()}")
    _run([base, "-m", "venv", "--clear", str(venv)], "the environment could not be created")


def _need_venv_module() -> None:
    """See to Debian's python3-venv, which a fresh machine lacks."""
    if _has_ensurepip():
        return
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _say(f"installing Debian's {package}, which Python needs to make environments")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", "-q", *command], check=False, env=environment, capture_output=True
            )
        if _has_ensurepip():
            return
    _fail(
        f"this Python ({sys.executable}) cannot make environments: its ensurepip is missing.\n"
        f"hint:  sudo apt-get install {package}"
    )


def _has_ensurepip() -> bool:
    # In a process of its own: what this one has not found, it does not look for again.
    command = [sys.executable, "-c", "import ensurepip, venv"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _install_pins(kind: Kind, venv: Path) -> None:
    build, pins = kind.pins
    count = sum("==" in line for line in pins.read_text().splitlines())
    _say(f"installing up to {count} pinned packages")
    pip = [_python(venv), "-m", "pip", "install", "-q", "--no-compile", "--require-hashes"]
    _run([*pip, "-r", str(build)], "the build tools could not be installed")
    installed = False
    if not _pip_has_its_own_ways(venv):
        uv = [str(venv / "bin/uv"), "pip", "install", "-q", "--python", _python(venv)]
        uv += ["--require-hashes", "--no-build-isolation", "-r", str(pins)]
        installed = _quiet(uv).returncode == 0
        if not installed:
            _say("uv could not install them; pip tries")
    if not installed:
        _run(
            [*pip, "--no-build-isolation", "-r", str(pins)],
            "the pinned packages could not be installed (is a package index reachable?)",
        )
    for requirement in kind.unhashed:
        _say(f"installing {requirement}")
        command = [_python(venv), "-m", "pip", "install", "-q", "--no-compile", requirement]
        _run(command, f"{requirement} could not be installed")
    _say("byte-compiling")
    # A few packages ship files for other Pythons, so what this returns says nothing.
    _quiet([_python(venv), "-m", "compileall", "-q", "-j", "0", str(venv / "lib")])


def _pip_has_its_own_ways(venv: Path) -> bool:
    """Whether pip was told of an index or a proxy that uv would not know."""
    listed = _quiet([_python(venv), "-m", "pip", "config", "list"]).stdout
    keys = {line.partition("=")[0].rpartition(".")[2] for line in listed.splitlines()}
    keys |= {
        name[len("PIP_") :].lower().replace("_", "-")
        for name in os.environ
        if name.startswith("PIP_")
    }
    return bool(keys & PIP_KEYS_UV_DOES_NOT_READ)


def _install_parts(kind: Kind, venv: Path) -> None:
    if not kind.parts:
        return
    _say(f"installing {', '.join(kind.parts)} in place")
    command = [_python(venv), "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    for part in kind.parts:
        command += ["-e", str(ROOT / part)]
    _run(command, "the parts of Whimbrel could not be installed")
    packages = [str(ROOT / part / f"whimbrel_{part}") for part in kind.parts]
    _quiet([_python(venv), "-m", "compileall", "-q", *packages])


@contextmanager
def _alone(venv: Path) -> Iterator[None]:
    """Hold the lock of this environment.

    The installers hold it, too: if this process is killed, the next set-up waits until what it
    started has ended. The kernel lets go of it with the last of them.
    """
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_name(venv.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("waiting for another set-up of the same environment")
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003 - the standard library's way
        yield


def _python(venv: Path) -> str:
    return str(venv / "bin/python")


def _version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _quiet(command: list[str]) -> subprocess.CompletedProcess[str]:
    # PYTHONPATH would leak the caller's packages into what is decided and built here.
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        close_fds=False,  # the lock is handed down
    )


def _run(command: list[str], failure: str) -> None:
    done = _quiet(command)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        _fail(f"{failure}; this command ended with {done.returncode}:\n{' '.join(command)}\n{said}")


def _say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


def _fail(message: str) -> NoReturn:
    raise SetupError(message)


if __name__ == "__main__":
    sys.exit(main())
