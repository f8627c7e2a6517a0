"""Child processes with limits: foreign code and native code may hang, crash or eat the memory.

A child is ``python -m <module> FOLDER`` with a request in ``FOLDER/request.json``; what it makes is
left in the folder. It writes the names of its stages to its original standard output, and an error
of its own to ``FOLDER/error.json``. Whatever else happens to it becomes a named error here.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import msgspec

from whimbrel_core import errors
from whimbrel_core.errors import ConversionError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
REQUEST, ERROR, LOG = "request.json", "error.json", "log.txt"
_MAX_LOG_CHARS = 300
_NEVER = (
    "some converters never return (sklearn-onnx #1253: forests over float64 with NaN); change the "
    "model, or give more time with --timeout"
)


class Limits(msgspec.Struct, frozen=True):
    """What a child may take: wall-clock seconds and bytes of address space."""

    timeout_s: float = 120.0
    memory_bytes: int = 8 << 30


def start(module: str, folder: Path, request: msgspec.Struct, limits: Limits) -> Child:
    """Start a child; `Child.wait` collects it."""
    (folder / REQUEST).write_bytes(msgspec.json.encode({"limits": limits, "request": request}))
    log = (folder / LOG).open("wb")
    # One thread per library: with several, sums differ from run to run, and every thread
    # reserves address space, which is what is limited.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **threads},
            start_new_session=True,  # so that a child's own children end with it
        )
    return Child(process, folder, limits)


class Child:
    """A running child process."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, limits: Limits) -> None:
        self._process = process
        self._folder = folder
        self._limits = limits
        self._deadline = time.monotonic() + limits.timeout_s
        self.stage = "starting"

    def wait(self, what: str, report: Callable[[str], None] | None = None) -> None:
        """Wait until the child is done.

        Args:
            what: names the model in messages.
            report: called with the name of each stage that begins.

        Raises:
            WhimbrelError: the child's own error.
            ConversionError: it took too long, too much memory, or crashed; the process is gone.
        """
        try:
            if not self._follow(report):
                self.kill()
                raise ConversionError(
                    f"{what}: {self.stage} took longer than {self._limits.timeout_s:g} s and was "
                    "stopped",
                    hint=_NEVER if self.stage == "converting" else "give more time with --timeout",
                    code="conversion.timeout",
                )
            code = self._process.wait()
        finally:
            self.kill()
        if code:
            self._fail(what, code)

    def kill(self) -> None:
        """End the child and its children, if it still runs."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _follow(self, report: Callable[[str], None] | None) -> bool:
        """Read stage names until the child closes its output; False when time is up."""
        output = self._process.stdout
        if output is None:
            raise ValueError("the child was started without a pipe")
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while True:
                left = self._deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    return False
                data = os.read(output.fileno(), 4096)
                if not data:
                    break
                pending += data
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    text = line.decode("utf-8", "replace")
                    self.stage = text.partition(": ")[0]  # without how far it is
                    if report:
                        report(text)
        try:
            self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _fail(self, what: str, code: int) -> NoReturn:
        with contextlib.suppress(OSError, ValueError, KeyError):
            stated = json.loads((self._folder / ERROR).read_text("utf-8"))
            kind = getattr(errors, stated["type"], ConversionError)
            raise kind(stated["message"], hint=stated["hint"], code=stated["code"])
        log = (self._folder / LOG).read_text("utf-8", "replace").strip()
        last = log.splitlines()[-1][:_MAX_LOG_CHARS] if log else "it left no message"
        memory = f"{self._limits.memory_bytes >> 20} MiB"
        if any(word in log for word in ("MemoryError", "bad_alloc", "memory allocation")):
            raise ConversionError(
                f"{what}: {self.stage} needs more than the {memory} of memory it may take",
                hint="give more with --memory-limit",
                code="conversion.memory",
            )
        if code == -signal.SIGFPE:
            raise ConversionError(
                f"{what}: {self.stage} crashed: the process divided the smallest integer by -1, "
                "or one by zero (SIGFPE)",
                hint="cast integers to float inside the model before they are divided",
                code="conversion.crash",
            )
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        outside = code == -signal.SIGKILL
        raise ConversionError(
            f"{what}: {self.stage} crashed: the process {how}: {last}",
            hint="something else ended it, most often the system when memory ran out: make the model "
            "smaller, or give the machine more"
            if outside
            else "the model's own code or a library crashes: load and ask the model by hand, with the "
            "versions that it was made with",
            code="conversion.crash",
        )


def main(kind: type[T], work: Callable[[T, Path, Callable[[str], None]], None]) -> NoReturn:
    """Run ``work(request, folder, stage)`` as a child's body and exit; see the module."""
    folder = Path(sys.argv[1])
    # Keep the parent's pipe to ourselves: libraries print to standard output.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    envelope = msgspec.json.decode((folder / REQUEST).read_bytes())
    limits = msgspec.convert(envelope["limits"], Limits)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        work(msgspec.convert(envelope["request"], kind), folder, lambda s: print(s, file=pipe))
    except WhimbrelError as error:
        stated = {"type": type(error).__name__, **error.as_dict()}
        (folder / ERROR).write_text(json.dumps(stated), "utf-8")
        sys.exit(1)
    pipe.close()
    # Native libraries may crash while a process that has done its work comes down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
