"""Two baselines are compared as if the newer one's rows had been counted in the older one's cells."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.profile.baseline import FeatureStats
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.projection import project
from whimbrel_core.profile.building.reference import build
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counts import FeatureCounts
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.shift import shifts
from whimbrel_core.profile.feature import Feature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.baseline import Baseline

WORDS = np.array(["AA", "B6", "UA", "WN"], object)
NAMES = ("temp", "rain", "wind", "hour", "carrier")


def rows(seed: int, n: int, shift: float = 0.0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    rain = np.where(rng.random(n) < 0.9 - shift / 10, 0.0, rng.gamma(2, 1, n))
    temp = rng.normal(10 + 5 * shift, 5, n)
    temp[rng.random(n) < 0.02 + shift / 10] = np.nan
    return {
        "temp": temp.astype(np.float32),
        "rain": rain.astype(np.float32),
        "wind": np.round(rng.gamma(3, 4 + shift, n), 1).astype(np.float32),
        "hour": np.clip(rng.integers(5, 24, n) + round(shift), 5, 23).astype(np.float32),
        "carrier": WORDS[rng.choice(4, n, p=[0.4, 0.3, 0.2 + shift / 20, 0.1 - shift / 20])],
    }


def baseline(columns: dict[str, NDArray[Any]]) -> Baseline:
    specs = [ColumnSpec(name, "input", name, 0, values) for name, values in columns.items()]
    return build(specs, task="regression")


@lru_cache
def many() -> Baseline:
    return baseline(rows(1, 20_000))


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("n", [900, 20_000])
def test_a_shift_is_what_counting_the_rows_themselves_would_have_told(shift: float, n: int) -> None:
    old, after = many(), rows(2, n, shift)
    window = Accumulator(old)
    window.update({name: values.reshape(-1, 1) for name, values in after.items()})
    exact = Judge(old).judge(window.window(0, 1))
    found = shifts(old, baseline(after))
    assert [one.feature for one in found] == list(NAMES)
    for one, true in zip(found, exact, strict=True):
        assert one.state == true.state, one.feature
        assert one.rows == true.rows
        assert one.null_shift == pytest.approx(true.null_shift)
        assert one.psi == pytest.approx(true.psi, rel=0.05, abs=0.002 + 6 / n)
        assert one.js == pytest.approx(true.js, abs=0.01)
        if true.ks is not None:
            assert one.ks == pytest.approx(true.ks, abs=0.006)
            assert one.w1_sd == pytest.approx(true.w1_sd, rel=0.02, abs=0.01)


def test_a_baseline_has_not_moved_from_itself() -> None:
    one = baseline(rows(1, 5_000))
    for drift in shifts(one, one):
        assert drift.state == "ok"
        assert drift.psi == 0.0
        assert drift.w1_sd is None or drift.w1_sd < 1e-12
        assert drift.null_shift == 0.0


def test_values_that_became_a_continuum_are_compared_all_the_same() -> None:
    whole = rows(1, 5_000)
    fine = rows(2, 5_000)
    fine["hour"] = (whole["hour"] + np.random.default_rng(3).random(5_000)).astype(np.float32)
    kinds = [
        next(f.kind for f in baseline(of).layout.features if f.name == "hour")
        for of in (whole, fine)
    ]
    assert kinds == ["discrete", "numeric"]
    there = {one.feature: one for one in shifts(baseline(whole), baseline(fine))}
    back = {one.feature: one for one in shifts(baseline(fine), baseline(whole))}
    assert list(there) == list(back) == list(NAMES), "in the order of the older one"
    assert there["hour"].psi == back["hour"].psi
    assert there["hour"].w1_sd == pytest.approx(0.5 / 5.47, abs=0.04)
    assert there["hour"].rows == 5_000


def test_words_and_numbers_are_not_compared_and_hide_nothing_else() -> None:
    before, after = rows(1, 2_000), rows(2, 2_000)
    after["hour"] = WORDS[np.zeros(2_000, int)]
    del after["rain"]
    found = shifts(baseline(before), baseline(after))
    assert [one.feature for one in found] == ["temp", "wind", "carrier"]


def test_new_words_count_as_other() -> None:
    before, after = rows(1, 2_000), rows(2, 2_000)
    after["carrier"] = np.where(after["carrier"] == "AA", "ZZ", after["carrier"]).astype(object)
    carrier = shifts(baseline(before), baseline(after))[-1]
    assert carrier.state == "severe"
    assert carrier.other_shift == pytest.approx(0.4, abs=0.05)


edges = st.lists(st.integers(-50, 50), min_size=0, max_size=20, unique=True).map(sorted)


@given(edges, edges, st.data())
def test_no_row_is_lost_or_made_up(
    source: list[int], target: list[int], data: st.DataObject
) -> None:
    counts = data.draw(
        st.lists(st.integers(0, 10_000), min_size=len(source) + 1, max_size=len(source) + 1)
    )
    a, b = (
        Feature(name="x", kind="numeric", role="input", tensor="x", edges=tuple(map(float, e)))
        for e in (source, target)
    )
    found = project(FeatureCounts(cells=tuple(counts), nulls=3), a, _stats(counts), b)
    assert found is not None
    assert len(found.cells) == b.cells
    assert min(found.cells) >= 0
    assert sum(found.cells) == sum(counts)
    assert found.nulls == 3
    if source == target:
        again = project(FeatureCounts(cells=tuple(counts)), a, _stats(counts), a)
        assert again is not None
        assert again.cells[1:-1] == tuple(counts[1:-1])


def _stats(counts: list[int]) -> FeatureStats:
    return FeatureStats(n=sum(counts), null_rate=0.0, mean=0.0, sd=1.0, min=-60.0, max=60.0)
