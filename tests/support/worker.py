"""Real workers for tests: started, spoken to and killed as control does it.

`FakeControl` stands where the control process would: it owns the listening sockets, holds the
other end of each worker's channel, and stores what comes over the telemetry socket.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from whimbrel_agent.channel import (
    ClosedWindow,
    Drain,
    Drained,
    FrameDecoder,
    FromWorker,
    Judgement,
    LoadFailed,
    LocalEvent,
    Ready,
    ServingSettings,
    SlotSpec,
    Start,
    Stored,
    ToTelemetry,
    ToWorker,
    encode_frame,
)
from whimbrel_core.profile import window as windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.models import MadeBundle
    from whimbrel_core.profile.window import Window
    from whimbrel_core.wire.assignment import Probation

WAIT_S = 20.0


class TelemetrySink:
    """Control's end of the telemetry socket: stores by id, answers `Stored`.

    Attributes:
        windows: stored windows by id.
        events: stored events by id.
        received: messages received, those that came twice counted twice.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.windows: dict[str, ClosedWindow] = {}
        self.events: dict[str, LocalEvent] = {}
        self.received = 0
        self._changed = threading.Condition()
        self._links: list[socket.socket] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(8)
        self._path = path
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> bool:
        """Wait until ``condition`` holds over what is stored."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def decoded(self, slot: str | None = None) -> list[Window]:
        """Return the stored windows, decoded."""
        return [
            windows.decode(message.payload)
            for message in list(self.windows.values())
            if slot is None or message.slot == slot
        ]

    @property
    def rows(self) -> int:
        """Rows in all stored windows."""
        return sum(message.rows for message in list(self.windows.values()))

    def close(self) -> None:
        """Go away, as a killed control does."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(WAIT_S)
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        decoder: FrameDecoder[ToTelemetry] = FrameDecoder(ToTelemetry)
        with contextlib.suppress(OSError):
            while data := link.recv(65536):
                for message in decoder.feed(data):
                    with self._changed:
                        self.received += 1
                        if isinstance(message, ClosedWindow):
                            self.windows.setdefault(message.window_id, message)
                            key = message.window_id
                        else:
                            self.events.setdefault(message.event_id, message)
                            key = message.event_id
                        self._changed.notify_all()
                    link.sendall(encode_frame(Stored(key)))


class RunningWorker:
    """One worker process and its channel."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, log: Path) -> None:
        self.process = process
        self.channel = channel
        self.log = log
        self.judgements: list[Judgement] = []
        self._decoder: FrameDecoder[FromWorker] = FrameDecoder(FromWorker)
        self._queue: list[FromWorker] = []

    def receive(self, timeout_s: float = WAIT_S) -> FromWorker:
        """Return the worker's next message."""
        self.channel.settimeout(timeout_s)
        while not self._queue:
            data = self.channel.recv(65536)
            if not data:
                msg = f"the worker closed its channel:\n{self.log.read_text()}"
                raise ConnectionError(msg)
            self._queue.extend(self._decoder.feed(data))
        return self._queue.pop(0)

    def ready(self) -> Ready:
        """Wait until the worker accepts."""
        message = self.receive()
        assert isinstance(message, Ready), f"{message}\n{self.log.read_text()}"
        return message

    def load_failed(self) -> LoadFailed:
        """Wait until the worker says that it cannot serve."""
        message = self.receive()
        assert isinstance(message, LoadFailed), message
        return message

    def judgement(self, verdict: str) -> Judgement:
        """Wait for a judgement with ``verdict``."""
        while True:
            message = self.receive()
            if isinstance(message, Judgement):
                self.judgements.append(message)
                if message.verdict == verdict:
                    return message

    def send(self, message: ToWorker) -> None:
        """Tell the worker."""
        self.channel.sendall(encode_frame(message))

    def drain(self, grace_s: float = 2.0) -> int:
        """Drain the worker and return its exit code."""
        self.send(Drain(grace_s))
        while not isinstance(self.receive(), Drained):
            pass
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        """``kill -9``, by its own process id."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(WAIT_S)
        self.channel.close()


class FakeControl:
    """Owns sockets and workers of one data directory.

    Args:
        data_dir: of the device.
        listen_unix: also listen on a Unix socket.
    """

    def __init__(self, data_dir: Path, *, listen_unix: bool = False) -> None:
        self.data_dir = data_dir
        self.sink: TelemetrySink | None = TelemetrySink(data_dir / "run" / "telemetry.sock")
        self.workers: list[RunningWorker] = []
        self._listening = [socket.create_server(("127.0.0.1", 0), backlog=1024)]
        self.port: int = self._listening[0].getsockname()[1]
        self.unix_path = data_dir / "run" / "http.sock"
        if listen_unix:
            unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            unix.bind(str(self.unix_path))
            unix.listen(64)
            self._listening.append(unix)

    def start_worker(
        self, *slots: SlotSpec, settings: ServingSettings | None = None, ready: bool = True
    ) -> RunningWorker:
        """Start a worker for ``slots``, and wait until it is ready."""
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno(), *(sock.fileno() for sock in self._listening)]
        command = [sys.executable, "-m", "whimbrel_agent.serving.worker"]
        command += ["--channel", str(descriptors[0])]
        for descriptor in descriptors[1:]:
            command += ["--listen", str(descriptor)]
        log = self.data_dir / f"worker-{len(self.workers)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, pass_fds=descriptors, stderr=stream)
        theirs.close()
        worker = RunningWorker(process, ours, log)
        self.workers.append(worker)
        worker.send(Start(slots, str(self.data_dir), settings or ServingSettings(), clock="synced"))
        if ready:
            worker.ready()
        return worker

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Make one request on a connection of its own; return status and decoded body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            content = response.read()
            kind = response.getheader("content-type", "")
            return response.status, json.loads(content) if "json" in kind and content else content
        finally:
            connection.close()

    def infer(self, slot: str, body: object) -> tuple[int, Any]:
        """POST an inference request."""
        return self.call("POST", f"/v2/models/{slot}/infer", body)

    def go_away(self) -> None:
        """Close the telemetry socket: control is down."""
        if self.sink is not None:
            self.sink.close()
            self.sink = None

    def come_back(self) -> TelemetrySink:
        """Open the telemetry socket again, with an empty store."""
        self.sink = TelemetrySink(self.data_dir / "run" / "telemetry.sock")
        return self.sink

    def close(self) -> None:
        """End every worker that is still there."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
            worker.channel.close()
        self.go_away()
        for sock in self._listening:
            sock.close()


def slot_spec(
    made: MadeBundle,
    slot: str = "churn",
    *,
    probation: Probation | None = None,
    keys: Sequence[str] | None = None,
    mode: str = "active",
) -> SlotSpec:
    """Return the slot that serves ``made``."""
    return SlotSpec(
        slot=slot,
        digest=made.digest,
        path=str(made.path),
        keys=tuple(keys if keys is not None else (made.pem,)),
        mode="shadow" if mode == "shadow" else "active",
        probation=probation,
        device="device-1",
    )


def row_request(rows: list[list[float]], **more: object) -> dict[str, object]:
    """Return a request over one FP32 matrix input ``x``."""
    width = len(rows[0])
    flat = [value for row in rows for value in row]
    item = {"name": "x", "shape": [len(rows), width], "datatype": "FP32", "data": flat}
    return {"inputs": [item], **more}


def read_response(stream: IO[bytes]) -> tuple[int, Any]:
    """Return status and decoded body of the next response on a connection."""
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    return status, json.loads(stream.read(length))
