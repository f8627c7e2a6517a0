"""The telemetry socket: committed together, answered one by one, nonsense shown the door."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from typing import TYPE_CHECKING

from whimbrel_agent.channel import FrameDecoder, LocalEvent, Stored, encode_frame
from whimbrel_agent.control.inbox import Inbox
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.telemetry.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, data: bytes, *, full: bool = False) -> tuple[list[str], Outbox, list[str]]:
    """Send ``data`` on a connection; return the ids answered, the outbox and the errors."""
    state = StateFile(folder / "agent.db")
    outbox = Outbox(state, "device-1", 1 << 20)
    errors: list[str] = []
    if full:
        (pages,) = state.query("PRAGMA page_count")[0]
        state.query(f"PRAGMA max_page_count = {pages}")

    async def story() -> list[str]:
        inbox = Inbox(
            folder / "telemetry.sock", outbox, on_stored=lambda: None, on_error=errors.append
        )
        await inbox.start()
        assert stat.S_IMODE((folder / "telemetry.sock").stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(str(folder / "telemetry.sock"))
        writer.write(data)
        writer.write_eof()
        answered = b""
        # A server that shows us the door while we talk resets the connection.
        with contextlib.suppress(ConnectionResetError):
            while piece := await reader.read(4096):
                answered += piece
        writer.close()
        await inbox.stop()
        return [stored.id for stored in FrameDecoder[Stored](Stored).feed(answered)]

    return asyncio.run(story()), outbox, errors


def event(n: int, size: int = 1) -> LocalEvent:
    return LocalEvent(f"{n:016x}", n, "drift", detail={"x": "y" * size})


def test_what_arrives_is_stored_and_answered_each_by_its_id(tmp_path: Path) -> None:
    data = b"".join(encode_frame(event(n)) for n in (1, 2, 2, 3))
    ids, outbox, errors = run(tmp_path, data)
    assert ids == [event(n).event_id for n in (1, 2, 2, 3)]
    assert outbox.totals().events == 3
    assert errors == []


def test_bytes_that_are_no_message_end_the_conversation_and_change_nothing(
    tmp_path: Path,
) -> None:
    ids, outbox, errors = run(tmp_path, b"\xff\xff\xff\xff nonsense")
    assert ids == []
    assert outbox.totals().rows == 0
    assert len(errors) == 1


def test_a_full_disk_is_answered_with_silence_so_that_the_sender_keeps_it(
    tmp_path: Path,
) -> None:
    data = b"".join(encode_frame(event(n, 1900)) for n in range(200))
    ids, outbox, errors = run(tmp_path, data, full=True)
    assert len(ids) == outbox.totals().rows < 200
    assert any("full" in error for error in errors)
