"""Slices through the real database: a drift of one segment is seen there, and only there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.server.jobs.test_fold import DAY_MS, START_MS, Books
from tests.support import windows
from tests.support.house import build_house
from tests.support.models import logistic
from tests.support.windows import Counter
from whimbrel_core.profile.slices import Slice
from whimbrel_server.ingest.batch import Incoming

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICES = (
    Slice(name="low", feature="x1", high=0.0),
    Slice(name="high", feature="x1", low=0.0),
    Slice(name="nowhere", feature="x1", low=50.0),
)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    """Yield a fleet in which x0 drifted on lga where x1 is above zero."""
    house = build_house(tmp_path_factory.mktemp("publisher"))
    recipe = dataclasses.replace(logistic(4), slices=SLICES)
    made = house.publish("1.0.0", recipe=recipe, window_s=86_400)
    opened = Books(house, tmp_path_factory.mktemp("server"))
    counter = Counter(made, seed=3)
    sent = []
    for day in range(66):
        window = counter.window(
            START_MS + day * DAY_MS,
            seconds=86_400,
            rows=600,
            shift=1.6 if day >= 56 else 0.0,
            where_positive=1,
            labels=True,
        )
        data = windows.message(made, window, device="lga", epoch="00000000000000aa", seq=day + 1)
        sent.append(Incoming("whimbrel/v1/lga/up/window", data, 0))
    opened.take(sent)
    opened.fold()
    yield opened
    opened.fleet.stop()


def test_a_slice_is_compared_with_itself_and_drifts_alone(books: Books) -> None:
    low, high, nowhere = books.fleet.slices("churn", "1.0.0", "lga")
    assert (low.name, low.condition) == ("low", "x1 ≤ 0")
    assert low.state in {"ok", "notice"}
    assert high.state == "severe"
    assert high.features[0].feature == "x0"
    assert low.rows + high.rows == 7 * 600
    assert low.share + high.share == pytest.approx(1.0)
    # x1 itself differs from the whole's in each slice; against the slice's own it does not.
    assert next(f.psi for f in high.features if f.feature == "x1") < 0.02
    assert high.losses[0].measure == "AUC"
    assert high.labelled_rows > 0
    assert high.auc_realised is not None
    assert (nowhere.rows, nowhere.state, nowhere.features) == (0, "too_few", ())


def test_an_alert_says_in_which_slices_it_is_and_in_which_it_is_not(books: Books) -> None:
    alert = next(one for one in books.fleet.alerts() if one.feature == "x0")
    found = books.fleet.explain(alert.id)
    assert found.attribution is not None
    assert (found.attribution.slices, found.attribution.calm_slices) == (("high",), ("low",))
    words = [s for p in found.paragraphs for s in p.sentences]
    assert "Only in high; not in low, over the days since." in words


def test_of_the_fleet_and_of_a_day_there_are_slices_too(books: Books) -> None:
    assert books.fleet.slices("churn")[1].state == "severe"
    until = START_MS + 20 * DAY_MS
    calm = books.fleet.slices("churn", "1.0.0", "lga", until - 7 * DAY_MS, until)
    assert {one.state for one in calm} <= {"ok", "notice", "too_few"}
    assert books.fleet.slices("churn", "1.0.0", "lga", 1, 2) == ()
