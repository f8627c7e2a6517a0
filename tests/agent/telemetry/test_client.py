"""Handing over to control: kept until stored, sent again, never in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.worker import TelemetrySink
from whimbrel_agent.channel import ClosedWindow, LocalEvent, encode_frame
from whimbrel_agent.telemetry.client import TelemetryClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def window(number: int) -> ClosedWindow:
    return ClosedWindow(
        window_id=f"{number:016x}",
        slot="churn",
        name="churn",
        version="1.0.0",
        digest="d" * 64,
        profile_id="e" * 64,
        start_ms=0,
        end_ms=1,
        rows=number,
        clock="event",
        payload=b"counts",
    )


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TelemetryClient]:
    (tmp_path / "profiles").mkdir()
    made = TelemetryClient(tmp_path / "telemetry.sock", tmp_path / "profiles", retry_s=0.05)
    yield made
    made.stop()


def test_what_is_stored_is_forgotten_with_its_file(tmp_path: Path, client: TelemetryClient) -> None:
    sink = TelemetrySink(tmp_path / "telemetry.sock")
    source = tmp_path / "profiles" / f"{1:016x}.open"
    source.write_bytes(b"memory")
    client.start()
    client.put(window(1), source)
    client.put(LocalEvent("f" * 16, 5, "drift"))
    assert client.flush(10)
    assert list(sink.windows) == [f"{1:016x}"]
    assert list(sink.events) == ["f" * 16]
    assert list((tmp_path / "profiles").iterdir()) == []
    sink.close()


def test_while_control_is_away_a_file_takes_the_place_of_memory(
    tmp_path: Path, client: TelemetryClient
) -> None:
    client.start()
    client.put(window(1))
    assert not client.flush(0.3)
    assert [path.name for path in (tmp_path / "profiles").iterdir()] == [f"{1:016x}.closed"]
    sink = TelemetrySink(tmp_path / "telemetry.sock")
    assert client.flush(10)
    assert sink.rows == 1
    sink.close()


def test_a_control_that_restarts_is_sent_what_it_did_not_acknowledge(
    tmp_path: Path, client: TelemetryClient
) -> None:
    first = TelemetrySink(tmp_path / "telemetry.sock")
    client.start()
    client.put(window(1))
    assert client.flush(10)
    first.close()
    for number in range(2, 200):
        client.put(window(number))
    second = TelemetrySink(tmp_path / "telemetry.sock")
    assert client.flush(20)
    assert sorted(second.windows) == [f"{number:016x}" for number in range(2, 200)]
    second.close()


def test_what_an_earlier_process_kept_is_sent_first(
    tmp_path: Path, client: TelemetryClient
) -> None:
    (tmp_path / "profiles" / f"{7:016x}.closed").write_bytes(encode_frame(window(7)))
    sink = TelemetrySink(tmp_path / "telemetry.sock")
    client.start()
    assert sink.wait_for(lambda: list(sink.windows) == [f"{7:016x}"])
    sink.close()


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\0\0\1x", encode_frame(window(9))])
def test_a_damaged_file_is_set_aside_and_the_others_are_sent(
    tmp_path: Path, client: TelemetryClient, content: bytes
) -> None:
    damaged = tmp_path / "profiles" / f"{1:016x}.closed"
    damaged.write_bytes(content)
    (tmp_path / "profiles" / f"{2:016x}.closed").write_bytes(encode_frame(window(2)))
    sink = TelemetrySink(tmp_path / "telemetry.sock")
    client.start()
    assert sink.wait_for(lambda: f"{2:016x}" in sink.windows)
    assert client.flush(10)
    assert sink.rows == 2
    assert (tmp_path / "profiles" / "damaged" / damaged.name).read_bytes() == content
    sink.close()


def test_an_unwritable_disk_keeps_messages_in_memory(
    tmp_path: Path, client: TelemetryClient, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "profiles").rmdir()
    (tmp_path / "profiles").write_bytes(b"a file where the folder was")
    client.start()
    client.put(window(1))
    assert not client.flush(0.2)
    sink = TelemetrySink(tmp_path / "telemetry.sock")
    assert client.flush(10)
    assert sink.rows == 1
    assert "kept in memory" in caplog.text
    sink.close()
