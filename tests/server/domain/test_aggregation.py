"""Aggregates: any order and any grouping of adds gives the same counts, bit by bit."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.profile.samples import REGRESSION, SLICED
from tests.core.profile.samples import windows as sampled
from tests.support.models import MadeBundle, build_bundle, logistic
from tests.support.windows import Counter
from whimbrel_core.errors import ProfileError
from whimbrel_core.profile import flat
from whimbrel_core.profile import window as profile_windows
from whimbrel_server.domain.aggregation import DAY_MS, HOUR_MS, Key, Step, keys_of
from whimbrel_server.domain.streams import Stream, StreamState
from whimbrel_server.domain.totals import Totals

if TYPE_CHECKING:
    from whimbrel_core.profile.window import Window

SOME = sampled(SLICED)
LEAVES = sampled(REGRESSION)
START_MS = 1_735_689_600_000
D = "d" * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    return build_bundle(tmp_path_factory.mktemp("bundle"), logistic(4))


@pytest.fixture(scope="module")
def windows(made: MadeBundle) -> list[Window]:
    counter = Counter(made)
    return [
        counter.window(START_MS + i * 300_000, rows=20 + i, shift=i / 3, labels=i % 2 == 0)
        for i in range(12)
    ]


def total(made: MadeBundle, windows: list[Window]) -> Totals:
    totals = Totals(made.baseline.layout)
    for window in windows:
        totals.add(Totals.of(made.baseline.layout, window))
    return totals


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_order_and_grouping_do_not_matter(
    made: MadeBundle, windows: list[Window], data: st.DataObject
) -> None:
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    shuffled = list(windows)
    rng.shuffle(shuffled)
    cut = data.draw(st.integers(0, len(windows)))
    left, right = total(made, shuffled[:cut]), total(made, shuffled[cut:])
    left.add(right)
    assert left == total(made, windows)


def added(windows: list[Window]) -> Totals:
    totals = Totals(SLICED)
    for window in windows:
        totals.add(Totals.of(SLICED, window))
    return totals


@given(SOME, SOME, SOME)
def test_totals_of_any_windows_with_slices_add_in_any_order_and_grouping(
    a: Window, b: Window, c: Window
) -> None:
    whole = added([a, b, c])
    assert added([c, a, b]) == whole
    pair = added([b, c])
    pair.add(added([a]))
    assert pair == whole
    pair.add(Totals(SLICED))
    assert pair == whole
    merged = profile_windows.merge(profile_windows.merge(a, b), c)
    assert whole.window() == merged
    assert flat.decode(whole.encode()).window() == merged
    assert whole.without(added([c])).window().slices == added([a, b]).window().slices


@given(LEAVES, LEAVES)
def test_totals_of_a_regression_add_the_leaves_of_all_rows_and_of_its_slices(
    a: Window, b: Window
) -> None:
    whole = Totals(REGRESSION)
    for window in (b, a):
        whole.add(Totals.of(REGRESSION, window))
    assert whole.window() == profile_windows.merge(a, b)
    assert profile_windows.decode(whole.encode()) == whole.window()


@given(st.lists(SOME, min_size=1, max_size=6), st.data())
def test_a_duplicate_and_the_order_of_arrival_change_nothing(
    sent: list[Window], data: st.DataObject
) -> None:
    rows = list(enumerate(sent, 1))
    again = data.draw(st.lists(st.sampled_from(rows), max_size=6))
    stream, totals = Stream(StreamState()), Totals(SLICED)
    for seq, window in data.draw(st.permutations(rows + again)):
        if stream.add(seq):
            totals.add(Totals.of_flat(SLICED, flat.decode(profile_windows.encode(window))))
    assert totals == added(sent)
    assert stream.ack() == (len(sent), ())


def test_totals_are_what_merging_windows_gives(made: MadeBundle, windows: list[Window]) -> None:
    merged = windows[0]
    for window in windows[1:]:
        merged = profile_windows.merge(merged, window)
    assert total(made, windows).window() == merged


def test_totals_survive_storing(made: MadeBundle, windows: list[Window]) -> None:
    whole = total(made, windows)
    stored = profile_windows.decode(profile_windows.encode(whole.window()))
    assert Totals.of(made.baseline.layout, stored, whole.windows) == whole


def test_what_was_added_can_be_taken_away_again(made: MadeBundle, windows: list[Window]) -> None:
    rest = total(made, windows).without(total(made, windows[:5]))
    expected = total(made, windows[5:])
    assert rest.rows == expected.rows
    assert rest.labels == expected.labels
    assert [counts.cells for counts in rest.window().features] == [
        counts.cells for counts in expected.window().features
    ]


def test_a_window_of_another_layout_is_refused(
    made: MadeBundle, windows: list[Window], tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = build_bundle(tmp_path_factory.mktemp("other"), logistic(5))
    with pytest.raises(ProfileError):
        Totals.of(other.baseline.layout, windows[0])


def test_a_window_counts_where_its_event_time_says() -> None:
    start = START_MS + 5 * HOUR_MS + 7
    keys = keys_of(D, "ewr", ("c:site=ny",), start, start + 300_000)
    periods: tuple[tuple[Step, int], ...] = (
        ("day", START_MS),
        ("hour", START_MS + 5 * HOUR_MS),
    )
    assert set(keys) == {
        Key(D, "d:ewr", "all", 0),
        Key(D, "fleet", "all", 0),
        *(
            Key(D, subject, step, bucket)
            for subject in ("d:ewr", "c:site=ny", "fleet")
            for step, bucket in periods
        ),
    }


def test_a_window_of_a_day_has_no_hours() -> None:
    keys = keys_of(D, "ewr", (), START_MS, START_MS + DAY_MS)
    assert {key.step for key in keys} == {"day", "all"}
