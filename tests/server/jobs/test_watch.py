"""What the server looks after by itself: quality, silence, alerts of earlier versions, old rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from tests.server.jobs.test_fold import DAY_MS, START_MS, Books, messages
from tests.support import windows
from tests.support.device import serving
from tests.support.models import regression
from tests.support.windows import Counter, payload
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import State, WindowMessage
from whimbrel_server import config
from whimbrel_server.domain.policies import Override
from whimbrel_server.ingest.batch import Incoming
from whimbrel_server.jobs import watch
from whimbrel_server.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.house import House
    from tests.support.models import MadeBundle

MONITORING = config.Monitoring()


@pytest.fixture
def books(house: House, tmp_path: Path) -> Iterator[Books]:
    opened = Books(house, tmp_path)
    yield opened
    opened.fleet.stop()


def wrong_world(made: MadeBundle, days: int, first_day: int = 0) -> list[object]:
    """Return messages from a world in which the truth is the opposite of what it was."""
    found = []
    counter = Counter(made, seed=9)
    counter._weights = -counter._weights
    for message in messages(made, days)[:days]:
        old = codec.decode(WindowMessage, message.payload)
        start = old.start_ms + first_day * DAY_MS
        window = counter.window(start, seconds=86_400, rows=300, labels=True)
        new = msgspec.structs.replace(
            old,
            seq=old.seq + 1000 + first_day,
            start_ms=start,
            end_ms=window.end_ms,
            payload=payload(window),
        )
        found.append(msgspec.structs.replace(message, payload=codec.encode(new)))
    return found  # type: ignore[return-value]


def look(books: Books) -> None:
    fleet = books.fleet
    watch.watch_quality(fleet._database, fleet.repository, fleet._registry, MONITORING, START_MS)


def quality_states(books: Books) -> list[str]:
    return [one.state for one in books.fleet.alerts() if one.kind == "quality"]


def test_quality_below_what_was_promised_is_an_alert_and_ends_when_it_is_back(
    house: House, books: Books
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books.take(messages(made, 4))
    books.fold()
    look(books)
    assert quality_states(books) == []
    books.take(wrong_world(made, 12, first_day=60))  # type: ignore[arg-type]
    books.fold()
    look(books)
    look(books)
    (alert,) = [one for one in books.fleet.alerts() if one.kind == "quality"]
    assert alert.evidence["figures"]["realised"] < alert.evidence["figures"]["promised"] - 0.05
    assert alert.evidence["figures"]["n"] == 12 * 300, "only the newest days count"
    assert alert.severity == "severe"
    later = [
        msgspec.structs.replace(
            one, payload=codec.encode(_moved(codec.decode(WindowMessage, one.payload), 120))
        )
        for one in messages(made, 4)
    ]
    books.take(later)
    books.fold()
    look(books)
    assert quality_states(books) == ["closed"]


def test_a_cohort_with_a_limit_of_its_own_is_watched_by_itself(house: House, books: Books) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    fleet = books.fleet
    fleet.label_device("ewr", {"site": "ewr"}, "operator")
    books.take([*messages(made, 4), *wrong_world(made, 4, first_day=4)])  # type: ignore[list-item]
    books.fold()
    strict = Override(cohort="site=ewr", max_quality_drop=0.02)
    for override, expected in (((), []), ((strict,), ["site=ewr"])):
        monitoring = config.Monitoring(max_quality_drop=0.9, override=override)
        watch.watch_quality(
            fleet._database, fleet.repository, fleet._registry, monitoring, START_MS
        )
        assert [one.scope for one in fleet.alerts() if one.kind == "quality"] == expected
    (alert,) = fleet.alerts("open")
    assert alert.message.startswith("AUC of churn 1.0.0 in site=ewr is ")
    assert alert.evidence["subject"] == "c:site=ewr"
    assert alert.evidence["thresholds"]["max_quality_drop"] == 0.02
    assert [one.outcome for one in fleet.replays()] == ["same"]


def test_a_regression_that_errs_more_than_promised_is_an_alert_and_its_verdict_is_made_again(
    house: House, books: Books
) -> None:
    plain = regression()
    truth = 2 * plain.rows["a"].ravel() - plain.rows["b"].ravel()
    noise = np.random.default_rng(5).normal(scale=0.5, size=len(truth))
    recipe = dataclasses.replace(plain, labels=truth + noise)
    made = house.publish("1.0.0", recipe=recipe, window_s=86_400, name="fares")
    rng = np.random.default_rng(6)

    def day(number: int, times: float) -> Incoming:
        accumulator = Accumulator(made.baseline)
        a, b = rng.normal(size=(2, 300, 1))
        y = 2 * a - b
        accumulator.update({"a": a, "b": b, "y": y})
        for value, error in zip(y.ravel(), rng.normal(scale=times * 0.5, size=300), strict=True):
            accumulator.record_error(float(value), float(value + error))
        start = START_MS + number * DAY_MS
        data = windows.message(
            made, accumulator.window(start, start + DAY_MS), device="lga",
            epoch="00000000000000aa", seq=number + 1, slot="fares",
        )  # fmt: skip
        return Incoming("whimbrel/v1/lga/up/window", data, 0)

    books.take([day(number, 1.0) for number in range(10)])
    books.fold()
    look(books)
    assert quality_states(books) == []
    books.take([day(number, 1.7) for number in range(40, 44)])
    books.fold()
    look(books)
    (alert,) = [one for one in books.fleet.alerts() if one.kind == "quality"]
    assert alert.message.startswith("MAE of fares 1.0.0 is 0.6")
    assert " over 1,200 labels, " in alert.message
    assert " more than the 0.3" in alert.message
    assert alert.severity == "severe"
    figures = alert.evidence["figures"]
    assert figures["realised"] - 3 * figures["se"] > 1.05 * figures["promised"]
    assert figures["promised_rmse"] < figures["rmse"]
    assert books.fleet.replay(alert.id).outcome == "same"
    said = [s for one in books.fleet.explain(alert.id).paragraphs for s in one.sentences]
    assert any("5.0 % more may be; and it is beyond doubt" in one for one in said)
    assert any(one.startswith("RMSE, by the same rows, is 0.8") for one in said)
    books.take([day(number, 1.0) for number in range(80, 110)])
    books.fold()
    look(books)
    assert quality_states(books) == ["closed"]


def _moved(message: WindowMessage, days: int) -> WindowMessage:
    from whimbrel_core.profile import window as profile_windows

    window = profile_windows.decode(message.payload)
    shift = days * DAY_MS
    moved = msgspec.structs.replace(
        window, start_ms=window.start_ms + shift, end_ms=window.end_ms + shift
    )
    return msgspec.structs.replace(
        message,
        seq=message.seq + 5000,
        start_ms=moved.start_ms,
        end_ms=moved.end_ms,
        payload=payload(moved),
    )


def test_alerts_of_a_version_end_when_nobody_serves_it_any_more(house: House, books: Books) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books.take(messages(made, 80, drifting="lga"))
    books.fold()
    fleet = books.fleet
    assert [one.device for one in fleet.alerts("open")]
    registry = fleet._registry

    def serve(digest: str) -> None:
        for record in registry.all():
            slots = (serving(made, digest=digest),)
            state = State(record.device, 1, 1, slots=slots)
            registry.settle({record.device: msgspec.structs.replace(record, state=state)})
        watch.watch_served(fleet._database, registry, START_MS)

    serve(made.digest)
    assert fleet.alerts("open")
    serve("f" * 64)
    assert fleet.alerts("open") == ()


def test_a_poor_version_that_nobody_serves_any_more_is_not_announced_again_and_again(
    house: House, books: Books
) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books.take(wrong_world(made, 12, first_day=60))  # type: ignore[arg-type]
    books.fold()
    fleet, registry = books.fleet, books.fleet._registry

    def serve(digest: str) -> None:
        for record in registry.all():
            state = State(record.device, 1, 1, slots=(serving(made, digest=digest),))
            registry.settle({record.device: msgspec.structs.replace(record, state=state)})

    serve(made.digest)
    look(books)
    assert quality_states(books) == ["open"]
    serve("f" * 64)
    for _ in range(3):
        look(books)
        watch.watch_served(fleet._database, registry, START_MS)
    assert quality_states(books) == ["closed"], "one alert, that ended once"


def test_silence_is_an_alert_once_and_a_sign_ends_it(house: House, books: Books) -> None:
    house.publish("1.0.0")
    fleet, registry = books.fleet, books.fleet._registry
    record = registry.get("ewr")
    assert record is not None
    registry.settle({"ewr": msgspec.structs.replace(record, last_seen_ms=START_MS)})
    hour = 3_600_000
    for now_ms in (START_MS + 71 * hour, START_MS + 73 * hour, START_MS + 74 * hour):
        watch.watch_silence(fleet._database, registry, MONITORING, now_ms)
    (alert,) = fleet.alerts("open")
    assert (alert.device, alert.kind, alert.at_ms) == ("ewr", "device", START_MS)
    registry.settle({"ewr": msgspec.structs.replace(record, last_seen_ms=START_MS + 75 * hour)})
    watch.watch_silence(fleet._database, registry, MONITORING, START_MS + 76 * hour)
    assert fleet.alerts("open") == ()


def test_what_is_old_goes_and_what_is_not_folded_stays(house: House, books: Books) -> None:
    made = house.publish("1.0.0", window_s=86_400)
    books.take(messages(made, 3))
    fleet = books.fleet
    much_later = START_MS + 1000 * DAY_MS

    def segments() -> int:
        with fleet._database.read() as connection:
            return int(
                connection.execute(sa.select(sa.func.count()).select_from(schema.segments)).scalar()
                or 0
            )

    assert segments() == 1
    watch.prune(fleet._database, config.Retention(), fleet._fold.folded, much_later)
    assert segments() == 1, "it is not in the aggregates yet"
    books.fold()
    watch.prune(fleet._database, config.Retention(), fleet._fold.folded, much_later)
    assert segments() == 0
    # Days of event time are kept relative to the newest of them: a replayed year is no old year.
    assert fleet.model("churn").versions[0].rows == 3 * 3 * 300
    assert len(fleet.quality_series("churn", step="day")["1.0.0"]) == 3
