"""The durable queue: nothing doubled by merging, nothing lost without being counted."""

from __future__ import annotations

import itertools
import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from whimbrel_agent.channel import ClosedWindow, LocalEvent
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.telemetry.outbox import ROW_BYTES, Outbox
from whimbrel_core.errors import StorageError
from whimbrel_core.profile import window as windows
from whimbrel_core.profile.feature import Feature
from whimbrel_core.profile.layout import Layout
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import Ack, WindowMessage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_core.profile.window import FeatureCounts, Window

LAYOUT = Layout(
    task="classification",
    features=(Feature(name="x", role="input", kind="numeric", tensor="x", column=0, edges=(0.0,)),),
    classes=("0", "1"),
    positive=1,
)
STEP = 300_000


def window(n: int, rows: int = 3, *, slot: str = "churn", digest: str = "a") -> ClosedWindow:
    """Return the n-th window of a slot."""
    empty = windows.empty(LAYOUT, n * STEP, (n + 1) * STEP)
    counts = empty.features[0]
    payload = windows.encode(_with_rows(empty, counts, rows))
    return ClosedWindow(
        window_id=f"{n:08x}{digest * 8}",
        slot=slot,
        name="m",
        version="1.0.0",
        digest=digest * 64,
        profile_id=LAYOUT.profile_id,
        start_ms=n * STEP,
        end_ms=(n + 1) * STEP,
        rows=rows,
        clock="event",
        payload=payload,
    )


def _with_rows(empty: Window, counts: FeatureCounts, rows: int) -> Window:
    import msgspec

    cells = (rows, *counts.cells[1:])
    filled = msgspec.structs.replace(
        counts, cells=cells, total=0.0, squares=0.0, min=-1.0, max=-1.0
    )
    return msgspec.structs.replace(empty, rows=rows, features=(filled,))


def event(n: int) -> LocalEvent:
    return LocalEvent(f"e{n:015x}", n, "drift", "churn", "a" * 64, {"state": "warn"})


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFile]:
    found = StateFile(tmp_path / "agent.db")
    yield found
    found.close()


def outbox(state: StateFile, quota: int = 1 << 20) -> Outbox:
    return Outbox(state, "device-1", quota)


def total_rows(box: Outbox, after: int = 0) -> int:
    return sum(m.rows for m in box.next_batch(after, 10_000) if isinstance(m, WindowMessage))


def test_a_window_stored_twice_is_one_row_even_after_it_was_acknowledged(state: StateFile) -> None:
    box = outbox(state)
    box.store([window(1), window(1)])
    assert box.totals().rows == 1
    box.next_batch(0, 10)
    box.acknowledge(Ack(box.epoch, 1))
    box.store([window(1)])
    assert box.totals().rows == 0


def test_numbers_are_given_when_sent_have_no_gaps_and_are_never_used_again(
    state: StateFile,
) -> None:
    box = outbox(state)
    box.store([window(n) for n in range(3)])
    assert [m.seq for m in box.next_batch(0, 2)] == [1, 2]
    assert (box.totals().first, box.totals().last, box.totals().waiting) == (1, 2, 1)
    box.acknowledge(Ack(box.epoch, 2))
    box.store([window(9)])
    again = outbox(state)
    assert [m.seq for m in again.next_batch(2, 10)] == [3, 4]
    assert again.first_unacknowledged() == 3


def test_an_acknowledgement_of_another_epoch_or_of_the_future_deletes_nothing(
    state: StateFile,
) -> None:
    box = outbox(state)
    box.store([window(n) for n in range(4)])
    box.next_batch(0, 2)
    assert box.acknowledge(Ack("0" * 16, 99)) == 0
    assert box.acknowledge(Ack(box.epoch, 0, ((3, 99),))) == 0
    assert box.acknowledge(Ack(box.epoch, 0, ((2, 2),))) == 1
    assert box.first_unacknowledged() == 1
    assert box.acknowledge(Ack(box.epoch, 10**12)) == 1  # row 1; rows without a number stay
    assert box.totals().rows == 2


def test_a_full_outbox_merges_evenly_and_loses_no_row_of_any_window(state: StateFile) -> None:
    size = len(window(1).payload)
    box = outbox(state, quota=(size + ROW_BYTES + 300) * 20)
    for n in range(300):
        box.store([window(n)])
    totals = box.totals()
    assert totals.bytes <= (size + ROW_BYTES + 300) * 20
    assert totals.dropped_windows == 0
    batch = [m for m in box.next_batch(0, 1000) if isinstance(m, WindowMessage)]
    assert sum(m.rows for m in batch) == 900
    assert sum(m.merged for m in batch) == 300
    assert sum(windows.decode(m.payload).rows for m in batch) == 900
    by_time = sorted(batch, key=lambda m: m.start_ms)
    assert by_time[0].start_ms == 0
    assert by_time[-1].end_ms == 300 * STEP
    # Periods do not overlap: only neighbours in time are merged.
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(by_time))
    # Even: no window covers much more than its share.
    assert max(m.merged for m in batch) <= 8 * min(m.merged for m in batch[:5])


def test_what_was_sent_is_never_merged_because_the_server_may_have_counted_it(
    state: StateFile,
) -> None:
    size = len(window(1).payload) + ROW_BYTES + 300
    box = outbox(state, quota=size * 6)
    box.store([window(n) for n in range(4)])
    sent = box.next_batch(0, 4)
    for n in range(4, 40):
        box.store([window(n)])
    assert box.next_batch(0, 4) == sent
    assert total_rows(box) == 120


def test_windows_of_other_bundles_and_slots_are_not_mixed(state: StateFile) -> None:
    size = len(window(1).payload) + ROW_BYTES + 300
    box = outbox(state, quota=size * 8)
    for n in range(30):
        box.store([window(n, digest="a"), window(n, digest="b"), window(n, slot="b", digest="c")])
    rows: dict[str, int] = {}
    for message in box.next_batch(0, 1000):
        assert isinstance(message, WindowMessage)
        rows[message.digest[0]] = rows.get(message.digest[0], 0) + message.rows
    assert rows == {"a": 90, "b": 90, "c": 90}


def test_with_nothing_left_to_merge_the_oldest_are_dropped_and_counted_events_last(
    state: StateFile,
) -> None:
    box = outbox(state, quota=4000)
    for n in range(40):
        # Every window of a bundle of its own: nothing can be merged.
        box.store([window(n, digest=f"{n % 16:x}", slot=f"s{n}"), event(n)])
    totals = box.totals()
    assert totals.bytes <= 4000
    assert totals.dropped_windows == 40 - totals.windows
    assert totals.dropped_windows + totals.windows == 40
    assert totals.dropped_events + totals.events == 40
    assert totals.windows == 0 or totals.dropped_events == 0


def test_windows_whose_sum_would_be_no_message_stay_apart_and_the_oldest_go(
    state: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = outbox(state)
    box.store([window(10, rows=200)])
    (one,) = box.next_batch(0, 1)
    box.acknowledge(Ack(box.epoch, 1))
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", len(codec.encode(one)) + 16)
    box = outbox(state, quota=4000)
    for n in range(11, 31):
        box.store([window(n, rows=200)])
    kept = [m for m in box.next_batch(0, 100) if isinstance(m, WindowMessage)]
    assert {m.merged for m in kept} == {1}
    assert kept[-1].end_ms == 31 * STEP
    assert box.totals().dropped_windows == 20 - len(kept)
    assert 5 <= len(kept) < 20


def test_what_could_never_be_delivered_is_counted_and_not_kept(state: StateFile) -> None:
    import msgspec

    box = outbox(state)
    bad = msgspec.structs.replace(window(1), payload=b"no window")
    large = LocalEvent("f" * 16, 1, "x", detail={str(n): "y" * 2000 for n in range(40)})
    assert box.store([bad, large]) == (bad.window_id, large.event_id)
    totals = box.totals()
    assert (totals.rows, totals.dropped_windows, totals.dropped_events) == (0, 1, 1)


def test_a_full_disk_stores_nothing_of_a_batch_and_the_outbox_goes_on(state: StateFile) -> None:
    box = outbox(state)
    box.store([window(0)])
    (pages,) = state.query("PRAGMA page_count")[0]
    state.query(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError) as caught:  # noqa: PT012 - which one is the first is open
        for n in range(1, 500):
            box.store([window(n)])
    assert caught.value.code == "storage.full"
    stored = box.totals()
    assert stored.bytes == state.query("SELECT sum(bytes) FROM outbox")[0][0]
    state.query("PRAGMA max_page_count = 100000")
    before = stored.rows
    box.store([window(1000)])
    assert box.totals().rows == before + 1


def test_a_damaged_database_is_set_aside_and_a_new_epoch_begins(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    first = StateFile(path)
    epoch = first.get("epoch")
    first.close()
    path.write_bytes(b"this is no database at all" * 300)
    second = StateFile(path)
    assert second.set_aside is not None
    assert second.set_aside.exists()
    assert second.get("epoch") not in {"", epoch}
    second.close()


def test_a_database_of_a_newer_agent_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer agent"):
        StateFile(path)
    assert path.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("store"), st.integers(0, 30)),
            st.tuples(st.just("send"), st.integers(1, 6)),
            st.tuples(st.just("ack"), st.integers(0, 40)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=60,
    )
)
@example([*(("store", n) for n in (0, 2, 3, 4, 5)), ("send", 5), ("store", 1)])
def test_in_any_history_every_window_is_acknowledged_once_still_there_or_counted_as_dropped(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int]]
) -> None:
    state = StateFile(tmp_path_factory.mktemp("h") / "agent.db")
    quota = (len(window(1).payload) + ROW_BYTES + 300) * 6
    box = outbox(state, quota)
    server: dict[int, WindowMessage] = {}
    stored: set[int] = set()
    for kind, value in history:
        if kind == "store":
            box.store([window(value)])
            stored.add(value)
        elif kind == "send":
            for message in box.next_batch(box.first_unacknowledged() - 1, value):
                assert isinstance(message, WindowMessage)
                assert server.setdefault(message.seq, message) == message
        elif kind == "ack":
            committed = [seq for seq in server if seq <= value]
            box.acknowledge(Ack(box.epoch, max(committed, default=0)))
        else:
            box = outbox(state, quota)
    for message in box.next_batch(0, 1000):
        assert isinstance(message, WindowMessage)
        assert server.setdefault(message.seq, message) == message
    # A quota full of rows that were sent, which are never merged, has room for nothing else: what
    # is dropped then is counted.
    dropped = box.totals().dropped_windows
    assert sum(message.rows for message in server.values()) == 3 * (len(stored) - dropped)
    assert sum(message.merged for message in server.values()) == len(stored) - dropped
    assert sorted(server) == list(range(1, len(server) + 1))
    assert dropped == 0 or any(kind == "send" for kind, _ in history)
    state.close()
