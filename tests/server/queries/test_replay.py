"""Verdicts recomputed from the real store: the same to the last bit, or what differs is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from tests.server.jobs.test_fold import DAY_MS, START_MS, Books, messages
from tests.server.jobs.test_watch import MONITORING, wrong_world
from tests.server.tampering import changed
from tests.support.house import House, build_house
from whimbrel_core.errors import UsageError
from whimbrel_server.domain import verdict
from whimbrel_server.jobs import watch
from whimbrel_server.store import alerts, judgements, schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from whimbrel_server.views.alerts import AlertView


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """Yield a fleet in which lga drifted; tests leave its store as they found it."""
    house = build_house(tmp_path_factory.mktemp("publisher"))
    made = house.publish("1.0.0", window_s=86_400)
    books = Books(house, tmp_path_factory.mktemp("server"))
    books.take(messages(made, 72, drifting="lga"))
    books.fold()
    yield books
    books.fleet.stop()


def alarm(books: Books, feature: str = "x0") -> AlertView:
    return next(one for one in books.fleet.alerts() if one.feature == feature)


def of_lga() -> sa.ColumnElement[bool]:
    table = schema.judgements
    return sa.and_(table.c.subject == "d:lga", table.c.start_ms == START_MS + 10 * DAY_MS)


def test_every_verdict_is_the_same_to_the_last_bit_from_windows_and_from_their_counts(
    drifted: Books,
) -> None:
    found = drifted.fleet.replays()
    assert {one.alert for one in found} == {one.id for one in drifted.fleet.alerts()}
    assert found
    for one in found:
        assert one.outcome == "same", one
        assert one.windows == one.recounted > 50
        assert one.sentence.startswith("The same to the last bit: ")


def test_a_kept_observation_that_was_tampered_with_is_found_twice(drifted: Books) -> None:
    one = alarm(drifted)
    with changed(drifted, schema.judgements, of_lga()) as (rows, put):
        kept, said = msgspec.msgpack.decode(rows[0]["payload"], type=judgements._Payload)
        values = np.frombuffer(kept.values or b"", "<f8").copy()
        values[0] += 0.5
        kept = msgspec.structs.replace(kept, values=values.tobytes())
        rows[0]["payload"] = msgspec.msgpack.encode((kept, said))
        put(rows)
        found = drifted.fleet.replay(one.id)
    assert found.outcome == "differs"
    (fault,) = found.faults
    assert "what the detector saw" in fault
    assert {d.figure for d in found.differences} <= {"log_e", "since_ms"}
    assert found.sentence.startswith("Not the same: ")


def test_a_verdict_that_was_tampered_with_is_shown_beside_what_is_true(drifted: Books) -> None:
    one = alarm(drifted)
    evidence = one.evidence | {"figures": one.evidence["figures"] | {"psi": 0.001}}
    with changed(drifted, schema.alerts, schema.alerts.c.id == one.id) as (rows, put):
        rows[0]["evidence"] = msgspec.json.encode(evidence)
        put(rows)
        found = drifted.fleet.replay(one.id)
    assert found.outcome == "differs"
    (difference,) = found.differences
    assert (difference.figure, difference.recorded) == ("psi", 0.001)
    assert difference.recomputed == one.evidence["figures"]["psi"]


def test_without_the_journal_the_history_still_gives_the_same(drifted: Books) -> None:
    with changed(drifted, schema.segments, sa.true()) as (_, put):
        put([])
        found = drifted.fleet.replay(alarm(drifted).id)
    assert (found.outcome, found.recounted) == ("same", 0)
    assert "the counts of none are in the journal any more" in found.sentence


def test_with_a_window_gone_nothing_is_proved(drifted: Books) -> None:
    with changed(drifted, schema.judgements, of_lga()) as (_, put):
        put([])
        found = drifted.fleet.replay(alarm(drifted).id)
    assert found.outcome == "incomplete"
    assert found.sentence.startswith("It cannot be recomputed: 1 of the ")
    assert not found.differences


def test_a_verdict_of_another_version_of_its_rule_is_not_held_against_this_one(
    drifted: Books,
) -> None:
    one = alarm(drifted)
    with changed(drifted, schema.alerts, schema.alerts.c.id == one.id) as (rows, put):
        rows[0]["evidence"] = msgspec.json.encode(one.evidence | {"version": 99})
        put(rows)
        found = drifted.fleet.replay(one.id)
    assert found.outcome == "incomplete"
    assert "version 99 of drift.device; this server has version 1" in found.sentence


def test_there_is_nothing_to_replay_of_an_alert_that_is_no_judgement(drifted: Books) -> None:
    fleet = drifted.fleet
    silent = alerts.NewAlert(
        cause="silent/ewr", at_ms=1, kind="device", severity="warn", message="ewr is silent"
    )
    fleet._database.write(lambda connection: alerts.raise_alert(connection, silent, 1))
    number = next(one.id for one in fleet.alerts() if one.kind == "device")
    try:
        with pytest.raises(UsageError, match="no verdict"):
            fleet.replay(number)
        with pytest.raises(UsageError, match="no alert 9999"):
            fleet.replay(9999)
    finally:
        table = schema.alerts
        fleet._database.write(lambda c: c.execute(sa.delete(table).where(table.c.id == number)))


def test_late_windows_bring_the_verdict_up_to_date(house: House, tmp_path: Path) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    sent = messages(made, 72, drifting="lga")[-72:]
    late = sent.pop(20)
    books = Books(house, tmp_path)
    books.take(sent)
    books.fold()
    before = verdict.read(alarm(books).evidence)
    books.take([late])
    books.fold()
    after = verdict.read(alarm(books).evidence)
    assert before is not None
    assert after is not None
    assert after.history - before.history in {0, 1}
    assert [one.outcome for one in books.fleet.replays()] == ["same"] * len(books.fleet.alerts())
    books.fleet.stop()


def test_windows_are_replayed_under_the_policy_that_each_was_judged_under(
    house: House, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    sent = messages(made, 72, drifting="lga")
    books = Books(house, tmp_path)
    books.take(sent[-72:-30])
    books.fold()
    # More devices share the budget from the next start on: its threshold is higher.
    for n in range(40):
        assert books.fleet.knows(f"new-{n}")
    books.crash()
    books.take(sent[-30:])
    books.fold()
    table = schema.meta
    with books.fleet._database.read() as connection:
        kept = connection.execute(
            sa.select(sa.func.count()).where(table.c.key.startswith("policy/"))
        ).scalar()
    assert kept == 2
    found = books.fleet.replays()
    assert found
    assert {one.outcome for one in found} == {"same"}
    books.fleet.stop()


def test_a_verdict_about_quality_is_recomputed_from_its_days(house: House, tmp_path: Path) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books = Books(house, tmp_path)
    books.take(wrong_world(made, 12))  # type: ignore[arg-type]
    books.fold()
    fleet = books.fleet
    watch.watch_quality(fleet._database, fleet.repository, fleet._registry, MONITORING, START_MS)
    (one,) = [alert for alert in fleet.alerts() if alert.kind == "quality"]
    found = fleet.replay(one.id)
    assert (found.outcome, found.windows) == ("same", 12), found
    books.take(messages(made, 1))
    books.fold()
    found = fleet.replay(one.id)
    assert found.outcome == "incomplete"
    assert "the labels of its days are others now" in found.sentence
    books.fleet.stop()
