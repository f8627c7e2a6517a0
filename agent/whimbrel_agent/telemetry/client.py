"""Hands closed windows and events to control, which commits them to the outbox.

A thread of its own with a blocking socket: serving never waits for it, and it works alike in a
worker and in an application that uses `whimbrel_agent.Model`. What is handed over is first written
to ``<profiles>/<id>.closed`` (a frame of `whimbrel_agent.channel`), then sent, and removed when
control says `Stored`. While control is away the files stay, also over a restart; sending one again
is harmless, because control knows the id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from whimbrel_agent.channel import (
    ClosedWindow,
    FrameDecoder,
    FromTelemetry,
    LocalEvent,
    ToTelemetry,
    encode_frame,
)
from whimbrel_core.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUFFIX = ".closed"
# At five minutes a window this is a month for one slot; then the oldest goes.
_MAX_KEPT = 10_000
_IN_FLIGHT = 64
_REPLY_TIMEOUT_S = 10.0
_log = logging.getLogger("whimbrel.telemetry")


class TelemetryClient:
    """Keeps what is closed until control has stored it.

    Args:
        socket_path: control's telemetry socket; it need not be there yet.
        directory: where ``.open`` and ``.closed`` files are.
        retry_s: first wait after a failure; doubled up to a minute.
    """

    def __init__(self, socket_path: Path, directory: Path, *, retry_s: float = 5.0) -> None:
        self._socket_path = socket_path
        self._directory = directory
        self._retry_s = retry_s
        self._pending: OrderedDict[str, bytes | None] = OrderedDict()
        self._changed = threading.Condition()
        self._sources: dict[str, Path] = {}
        self._jobs: list[Callable[[], object]] = []
        self._stopping = False
        self._busy = False
        self.stored = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def start(self) -> None:
        """Start sending; what an earlier process left is sent first."""
        self._thread.start()

    def put(self, message: ClosedWindow | LocalEvent, source: Path | None = None) -> None:
        """Hand over ``message``; ``source`` is the ``.open`` file that it replaces. Never blocks."""
        key = _key(message)
        with self._changed:
            if source is not None:
                self._sources[key] = source
            self._pending[key] = encode_frame(message)
            self._changed.notify_all()

    def call(self, job: Callable[[], object]) -> None:
        """Run ``job`` on the telemetry thread: work that must not delay a request."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Messages that control has not stored yet."""
        return len(self._pending)

    def flush(self, timeout_s: float) -> bool:
        """Wait until control has stored everything; return whether it has."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._pending or self._jobs or self._busy), timeout_s
            )

    def stop(self, timeout_s: float = 1.0) -> None:
        """Write what is pending to files, stop the thread, and keep the files."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._persist()

    def _run(self) -> None:
        self.adopt()
        wait = self._retry_s
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._pending or self._jobs)
                if self._stopping:
                    return
                jobs, self._jobs = self._jobs, []
                self._busy = bool(jobs)
            for job in jobs:
                _run_job(job)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
            self._persist()
            try:
                if self._pending:
                    self._exchange()
                wait = self._retry_s
            except (OSError, WireError) as error:
                _log.info("control is away (%s); keeping %d messages", error, len(self._pending))
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping or bool(self._jobs), wait)
                wait = min(wait * 2, 60.0)

    def adopt(self) -> None:
        """Queue what another process closed and could not hand over. On the telemetry thread.

        It may belong to a process that is still trying: control stores a window only once.
        """
        for path in sorted(self._directory.glob("*" + SUFFIX), key=_age):
            with self._changed:
                self._pending.setdefault(path.stem, None)

    def _persist(self) -> None:
        """Write pending messages to files, so that memory holds only their ids."""
        with self._changed:
            fresh = [(key, frame) for key, frame in self._pending.items() if frame is not None]
        for key, frame in fresh:
            path = self._directory / (key + SUFFIX)
            try:
                _write(path, frame)
            except OSError as error:
                # The frame stays in memory, and the .open file, if there is one, on disk.
                _log.warning("cannot keep %s on disk (%s); it is kept in memory", key, error)
                continue
            source = self._sources.pop(key, None)
            if source is not None:
                with contextlib.suppress(OSError):
                    source.unlink(missing_ok=True)
            with self._changed:
                if key in self._pending:
                    self._pending[key] = None
        while len(self._pending) > _MAX_KEPT:
            self._forget(next(iter(self._pending)))
            self.dropped += 1

    def _exchange(self) -> None:
        """Send what is pending until nothing is. Raises OSError or WireError when control goes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(_REPLY_TIMEOUT_S)
            link.connect(str(self._socket_path))
            decoder: FrameDecoder[FromTelemetry] = FrameDecoder(FromTelemetry)
            while not self._stopping:
                with self._changed:
                    batch = list(self._pending.items())[:_IN_FLIGHT]
                if not batch:
                    return
                sent = set()
                for key, frame in batch:
                    data = frame if frame is not None else self._load(key)
                    if data is None:
                        self._forget(key)
                        continue
                    link.sendall(data)
                    sent.add(key)
                while sent:
                    data = link.recv(65536)
                    if not data:
                        msg = "it closed the telemetry socket"
                        raise ConnectionResetError(msg)
                    for reply in decoder.feed(data):
                        sent.discard(reply.id)
                        self._forget(reply.id)
                        self.stored += 1

    def _load(self, key: str) -> bytes | None:
        path = self._directory / (key + SUFFIX)
        try:
            data = path.read_bytes()
            decoder: FrameDecoder[ToTelemetry] = FrameDecoder(ToTelemetry)
            messages = list(decoder.feed(data))
        except FileNotFoundError:
            return None  # another process handed it over
        except WireError as error:
            set_aside(path)
            _log.warning("%s is damaged (%s); it was moved to damaged/", path.name, error)
            return None
        if [_key(message) for message in messages] != [key]:
            set_aside(path)
            _log.warning("%s does not hold what its name says; moved to damaged/", path.name)
            return None
        return data

    def _forget(self, key: str) -> None:
        with contextlib.suppress(OSError):
            (self._directory / (key + SUFFIX)).unlink(missing_ok=True)
        source = self._sources.pop(key, None)
        if source is not None:
            with contextlib.suppress(OSError):
                source.unlink(missing_ok=True)
        with self._changed:
            self._pending.pop(key, None)
            self._changed.notify_all()


def set_aside(path: Path) -> None:
    """Move a file that cannot be read to ``damaged/`` beside it, for a person to look at."""
    target = path.parent / "damaged"
    target.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.rename(target / path.name)


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _run_job(job: Callable[[], object]) -> None:
    try:
        job()
    except Exception:  # noqa: BLE001 - the thread's boundary: a fault must not end the handing over
        _log.exception("a telemetry job failed; serving goes on")


def _key(message: ClosedWindow | LocalEvent) -> str:
    return message.window_id if isinstance(message, ClosedWindow) else message.event_id


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or none: a power cut leaves no half of it under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
