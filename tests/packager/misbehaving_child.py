"""A child that does what it is told: crash, eat memory, print, spawn, refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ParityError
from whimbrel_packager.conversion import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Request(msgspec.Struct, frozen=True):
    what: str


def work(request: Request, folder: Path, stage: Callable[[str], None]) -> None:
    stage("misbehaving")
    if request.what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif request.what == "memory":
        blocks = [bytearray(1 << 28) for _ in range(64)]
        raise AssertionError(len(blocks))
    elif request.what == "refuse":
        raise ParityError("it differs", hint="look", code="parity.test")
    elif request.what == "raise":
        raise ZeroDivisionError("a fault of a converter")
    elif request.what == "print":
        print("converting\nnot a stage")  # noqa: T201
        (folder / "made").write_text("done")
    elif request.what == "spawn":
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (folder / "pid").write_text(str(started.pid))
        started.wait()


if __name__ == "__main__":
    child.main(Request, work)
