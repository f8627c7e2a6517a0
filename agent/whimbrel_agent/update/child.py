"""Both ends of a short-lived process: control's `run` and the child's `serve`.

A crash, a hang and nonsense on standard output are answers, too: each becomes a named `Failure`.
The child dies with control (``PR_SET_PDEATHSIG``), so that a restarted control never meets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.control.waiting import within
from whimbrel_agent.update.messages import Answer, Failure
from whimbrel_core.errors import StorageError, UnavailableError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_ANSWER_BYTES = 1 << 20
_TAIL_CHARS = 600
_PR_SET_PDEATHSIG = 1


async def run(module: str, request: msgspec.Struct, *, timeout_s: float, what: str) -> Answer:
    """Run ``python -m module`` on ``request`` and return its answer, whatever happens to it.

    Args:
        module: dotted name of a module that calls `serve`.
        request: sent as JSON.
        timeout_s: the process is killed when this has passed.
        what: the kind of process, for codes and messages: ``probe`` gives ``probe.crash``.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
    except OSError as error:
        return _failed(f"{what}.start", f"{what} process cannot be started: {error}", retry=True)
    try:
        out, err = await within(process.communicate(msgspec.json.encode(request)), timeout_s)
    except asyncio.TimeoutError:
        return _failed(
            f"{what}.timeout", f"{what} did not end within {timeout_s:g} s and was stopped"
        )
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return _read(out, err, process.returncode or 0, what)


def _read(out: bytes, err: bytes, code: int, what: str) -> Answer:
    tail = err.decode("utf-8", "replace").strip()[-_TAIL_CHARS:]
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
        cause = {
            "SIGXCPU": "used more processor time than it may",
            "SIGKILL": "was killed, perhaps for lack of memory",
        }.get(name, "crashed")
        return _failed(f"{what}.crash", f"{what} {cause} ({name})" + (f": {tail}" if tail else ""))
    if code != 0 or len(out) > _MAX_ANSWER_BYTES:
        return _failed(f"{what}.crash", f"{what} ended with code {code}: {tail or 'no message'}")
    try:
        return msgspec.json.decode(out, type=Answer)
    except msgspec.DecodeError as error:
        return _failed(f"{what}.crash", f"{what} gave an answer that cannot be read: {error}")


def _failed(code: str, message: str, *, retry: bool = False) -> Answer:
    return Answer(failure=Failure(code=code, message=message, retryable=retry))


def serve(answer: Callable[[bytes], Answer]) -> None:
    """Read the request, print what ``answer`` makes of it, and exit. The child's main function."""
    _die_with_parent()
    request = sys.stdin.buffer.read()
    try:
        result = answer(request)
    except WhimbrelError as error:
        result = Answer(failure=failure(error))
    except MemoryError:
        result = _failed("probe.memory", "the process ran out of the memory that it may use")
    sys.stdout.buffer.write(msgspec.json.encode(result))
    sys.stdout.flush()


def failure(error: WhimbrelError) -> Failure:
    """Return an error as it is answered to control."""
    return Failure(
        code=error.code,
        message=error.message,
        hint=error.hint or "",
        retryable=error.retryable or isinstance(error, (UnavailableError, StorageError)),
    )


def _die_with_parent() -> None:
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # The parent ended before the request took effect.
        os._exit(1)
