"""From the broker's messages to acknowledged rows: batches, commits, acknowledgements.

paho's thread puts messages into a bounded queue; one thread collects at most `MAX_BATCH` of them
or waits `BATCH_S`, sorts them, and hands them to the database's writer while it collects the
next. After the commit, acknowledgements go out, coalesced per stream.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from whimbrel_core.errors import WhimbrelError, WireError
from whimbrel_core.identity import DeviceId
from whimbrel_core.wire import codec, topics
from whimbrel_core.wire.messages import Ack
from whimbrel_server.ingest import batch as batches

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from whimbrel_server.ingest.journal import Committed, Journal, StreamKey
    from whimbrel_server.store.database import Database

log = logging.getLogger(__name__)

MAX_BATCH = 500
BATCH_S = 0.010
ACK_S = 0.250
ACK_WINDOWS = 64
# A full queue blocks paho's thread, which stops reading from the broker. Small enough to be
# worked off within a keep-alive.
_QUEUE = 20_000
# One batch is being committed while the next is sorted.
_IN_FLIGHT = 2


class Receiver:
    """The ingest thread.

    Args:
        database, journal: where rows are committed.
        known: which devices and bundles there are.
        publish: sends an acknowledgement.
        committed: called on the writer thread after each commit.
        strangers: called with messages per device that is not enrolled.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        journal: Journal,
        known: batches.Known,
        *,
        publish: Callable[[str, bytes], None],
        committed: Callable[[Committed], None],
        strangers: Callable[[dict[str, int]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._journal, self._known = database, journal, known
        self._publish, self._committed, self._strangers = publish, committed, strangers
        self._now_ms = now_ms
        self._queue: queue.Queue[batches.Incoming | None] = queue.Queue(_QUEUE)
        self._room = threading.Semaphore(_IN_FLIGHT)
        self._due: dict[StreamKey, tuple[float, int]] = {}
        self._due_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    @property
    def busy(self) -> bool:
        """Whether more messages wait than the next batch takes."""
        return self._queue.qsize() > MAX_BATCH

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what was received, acknowledge it, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def receive(self, topic: str, payload: bytes) -> None:
        """Take one message; blocks while the queue is full."""
        self._queue.put(batches.Incoming(topic, payload, self._now_ms()))

    def _run(self) -> None:
        while True:
            messages, last = self._collect()
            if messages:
                self._room.acquire()
                try:
                    batch = batches.sort(messages, self._known)
                    future = self._database.submit(
                        lambda connection, batch=batch: self._journal.commit(  # type: ignore[misc]
                            connection, batch, self._now_ms()
                        ),
                        self._settle,
                    )
                except BaseException:  # whatever ends it: give the place back
                    self._room.release()
                    raise
                future.add_done_callback(self._after)
                if batch.strangers:
                    self._strangers(batch.strangers)
            self._send_acks(everything=last)
            if last:
                for _ in range(_IN_FLIGHT):
                    self._room.acquire()
                self._send_acks(everything=True)
                return

    def _collect(self) -> tuple[list[batches.Incoming], bool]:
        messages: list[batches.Incoming] = []
        try:
            first = self._queue.get(timeout=self._next_ack_s())
        except queue.Empty:
            return messages, False
        if first is None:
            return messages, True
        messages.append(first)
        until = time.monotonic() + BATCH_S
        while len(messages) < MAX_BATCH:
            left = until - time.monotonic()
            try:
                item = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return messages, True
            messages.append(item)
        return messages, False

    def _settle(self, done: Committed) -> None:
        # On the writer thread, before its next change: whoever commits next sees these streams.
        self._journal.settle(done)
        now = time.monotonic()
        with self._due_lock:
            for key, messages in done.touched.items():
                first, number = self._due.get(key, (now, 0))
                self._due[key] = (first, number + messages)
        self._committed(done)

    def _after(self, future: Future[Committed]) -> None:
        try:
            future.result()
        except WhimbrelError as error:
            log.error("a batch was not stored, and is not acknowledged: %s", error)  # noqa: TRY400
        except Exception:  # one batch must not end ingest; it is logged, and not acknowledged
            log.exception("a batch was not stored, and is not acknowledged")
        finally:
            self._room.release()

    def _next_ack_s(self) -> float:
        with self._due_lock:
            if not self._due:
                return ACK_S / 2
            oldest = min(first for first, _ in self._due.values())
        return max(0.001, min(ACK_S / 2, oldest + ACK_S - time.monotonic()))

    def _send_acks(self, *, everything: bool) -> None:
        now = time.monotonic()
        with self._due_lock:
            due = [
                key
                for key, (first, number) in self._due.items()
                if everything or number >= ACK_WINDOWS or now - first >= ACK_S
            ]
            for key in due:
                del self._due[key]
        for device, epoch in due:
            upto, ranges = self._journal.ack((device, epoch))
            try:
                topic = topics.down(DeviceId(device), "ack")
                self._publish(topic, codec.encode(Ack(epoch, upto, ranges)))
            except WireError as error:
                log.error("an acknowledgement for %s is not sent: %s", device, error)  # noqa: TRY400
