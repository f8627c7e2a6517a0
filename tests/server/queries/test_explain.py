"""Alerts of a real fleet in words: what surrounds them is found in the store, and told as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.server.jobs.test_fold import Books, messages
from tests.server.jobs.test_watch import MONITORING, wrong_world
from whimbrel_core.errors import InputError
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import Life
from whimbrel_server.ingest.batch import Incoming
from whimbrel_server.jobs import watch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.server.jobs.test_groups import Books as ManyBooks
    from tests.support.house import House
    from whimbrel_server.views.verdicts import ExplanationView


def paragraph(found: ExplanationView, title: str) -> str:
    return " ".join(next(one.sentences for one in found.paragraphs if one.title == title))


def birth(device: str, incarnation: int, agent_version: str) -> Incoming:
    life = Life(
        device, alive=True, incarnation=incarnation, epoch="aa", agent_version=agent_version
    )
    return Incoming(f"whimbrel/v1/{device}/up/life", codec.encode(life), 0)


def test_a_drift_of_several_devices_names_them_their_cohort_and_the_budget(
    many: ManyBooks,
) -> None:
    top = next(one for one in many.fleet.alerts() if one.scope and one.feature == "x0")
    found = many.fleet.explain(top.id)
    said = paragraph(found, "Found")
    assert "d07" in said
    assert "d09" in said
    assert "5.0 % at most do not drift" in said
    assert "One budget of false alarms covers the devices, their cohorts and the fleet." in said
    assert found.losses
    # Of the drifting devices alone: the others' rows would only water it down.
    assert found.losses[0].rows <= 3 * 7 * 150
    assert "drift.group" in paragraph(found, "Judged by")


def test_each_device_s_own_alert_says_who_else_has_it(many: ManyBooks) -> None:
    own = next(one for one in many.fleet.alerts() if one.device == "d08" and one.feature == "x0")
    found = many.fleet.explain(own.id)
    where = paragraph(found, "Where")
    assert "x0 drifted about then on d07 and d09, too, of 11 other devices" in where
    assert "All of them are site=ewr, and most that are site=ewr have it." in where
    assert found.attribution is not None
    assert found.attribution.cohort == "site=ewr"
    assert found.attribution.others == 11
    assert many.fleet.replay(own.id).outcome == "same"


def test_a_drift_of_one_device_is_told_as_its_own_with_what_changed_there(
    house: House, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books = Books(house, tmp_path)
    # The clock of the test's server stands still, at the beginning of its windows.
    books.take([birth("lga", 1, "0.1.0")])
    books.take([birth("lga", 2, "0.2.0")])
    books.take(messages(made, 72, drifting="lga"))
    books.fold()
    fleet = books.fleet
    fleet.label_device("lga", {"site": "roof"}, "operator")
    changed = [one for one in fleet.events("lga") if one.kind == "device.changed"]
    assert [one.detail for one in changed] == [{"agent": "0.1.0 → 0.2.0"}]
    alert = next(one for one in fleet.alerts() if one.feature == "x0")
    found = fleet.explain(alert.id)
    where = paragraph(found, "Where")
    assert where.startswith("On lga alone: 2 other devices serve this version")
    since = paragraph(found, "Since")
    assert since.startswith("It began about ")
    assert "No rollout is near: lga had served 1.0.0 for 5" in since
    # The agent changed seven weeks before: nothing is said to be near that is not.
    assert "Nothing is known to have changed on lga in the 8 d before" in paragraph(
        found, "What else changed"
    )
    assert "Its mean was " in paragraph(found, "Found")
    cost = paragraph(found, "What it costs")
    assert "expected AUC" in cost
    assert "Labels of that time say: AUC" in cost
    assert "only labels show it" in cost
    fleet.stop()


def test_a_fall_of_quality_says_by_how_much_and_that_labels_say_so(
    house: House, tmp_path: Path
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books = Books(house, tmp_path)
    books.take(wrong_world(made, 12))  # type: ignore[arg-type]
    books.fold()
    fleet = books.fleet
    watch.watch_quality(fleet._database, fleet.repository, fleet._registry, MONITORING, 1)
    (one,) = [alert for alert in fleet.alerts() if alert.kind == "quality"]
    found = fleet.explain(one.id)
    said = paragraph(found, "Found")
    assert "its baseline promised" in said
    assert "where 0.05 may be" in said
    assert "Labels say so" in said
    assert [p.title for p in found.paragraphs] == ["Found", "Judged by"]
    fleet.stop()


def test_of_a_bundle_that_cannot_be_read_any_more_the_verdict_itself_is_told(
    many: ManyBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = next(one for one in many.fleet.alerts() if one.device == "d08" and one.feature == "x0")

    def gone(_: str) -> None:
        raise InputError("the bundle is damaged")

    monkeypatch.setattr(many.fleet.repository, "contents", gone)
    found = many.fleet.explain(own.id)
    assert [one.title for one in found.paragraphs] == ["Found", "Judged by"]
    replayed = many.fleet.replay(own.id)
    assert replayed.outcome == "incomplete"
    assert "its bundle cannot be read: the bundle is damaged" in replayed.sentence
