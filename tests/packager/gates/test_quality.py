"""Quality, the incumbent and slices: figures on held-out rows with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from tests.packager.gates.samples import context, scored, valued, words
from whimbrel_core.errors import ConfigError
from whimbrel_packager.gates import incumbent, quality, slices
from whimbrel_packager.gates.context import Rival
from whimbrel_packager.gates.incumbent import Incumbent
from whimbrel_packager.gates.quality import Quality
from whimbrel_packager.gates.slices import Slice
from whimbrel_packager.quality.intervals import Resamples
from whimbrel_packager.quality.metrics import METRICS

if TYPE_CHECKING:
    from whimbrel_packager.gates.outcome import Outcome
    from whimbrel_packager.quality.predictions import Predictions

NOTHING = {"x": np.zeros(600)}


def of_quality(declared: Quality, answered: Predictions | None) -> dict[str, Outcome]:
    return {o.name: o for o in quality.judge(declared, context(NOTHING, answered))}


def test_a_limit_is_a_floor_for_what_should_be_large_and_a_ceiling_for_what_should_be_small() -> (
    None
):
    answered = scored(600)
    auc, brier = METRICS["auc"].value(answered), METRICS["brier"].value(answered)
    found = of_quality(Quality(auc=auc - 0.01, brier=brier - 0.01), answered)
    assert (found["quality.auc"].held, found["quality.brier"].held) == (True, False)
    assert (found["quality.auc"].rule, found["quality.brier"].rule) == ("at least", "at most")
    low, high = found["quality.auc"].interval or (0, 0)
    assert low < auc < high
    assert "(on all reference rows: none are named as held out)" in found["quality.auc"].message


def test_judged_by_the_interval_a_model_needs_rows_enough_to_be_sure() -> None:
    few, many = scored(100, 1), scored(600, 1)
    below = Quality(judged_by="interval", auc=METRICS["auc"].value(few) - 0.04)
    (unsure,) = quality.judge(below, context({"x": np.zeros(100)}, few))
    assert not unsure.held
    below = Quality(judged_by="interval", auc=METRICS["auc"].value(many) - 0.04)
    assert of_quality(below, many)["quality.auc"].held


@pytest.mark.parametrize(
    ("declared", "answered", "message"),
    [
        (Quality(auc=0.5), None, "there are no labels"),
        (Quality(rmse=1.0), scored(600), "a classification model has no rmse"),
        (Quality(auc=0.5), scored(600)._replace(probabilities=None), "needs the probability"),
        (Quality(accuracy=0.1, min_rows=601), scored(600), "600 held-out rows are too few"),
    ],
)
def test_a_figure_that_cannot_be_measured_has_not_been_reached(
    declared: Quality, answered: Predictions | None, message: str
) -> None:
    (outcome,) = of_quality(declared, answered).values()
    assert not outcome.held
    assert message in outcome.message


def against(
    mine: Predictions, theirs: Predictions | None, mode: str = "non-inferiority", **margins: float
) -> list[Outcome]:
    declared = msgspec.convert({"margins": margins, "mode": mode}, Incumbent)
    rival = Rival("flights-1.0.0", theirs) if theirs is not None else None
    return list(incumbent.judge(declared, context(NOTHING, mine, rival=rival)))


def jittered(answered: Predictions, sd: float, lift: float = 0.0) -> Predictions:
    """The same model with noise in its scores, and a little more (or less) insight."""
    score = answered.score
    assert score is not None
    noise = np.random.default_rng(0).normal(0, sd, len(score)) + lift * (answered.true - 0.5)
    moved = np.clip(score + noise, 0.001, 0.999)
    return answered._replace(
        probabilities=np.stack([1 - moved, moved], axis=1),
        predicted=np.where(moved > 0.5, "1", "0").astype(object),
    )


def test_a_model_is_not_worse_only_when_the_whole_interval_says_so() -> None:
    old = scored(600, 5)
    same, noisy = jittered(old, 0.01), jittered(old, 0.15)
    (held,) = against(same, old, auc=0.01)
    assert held.held
    assert held.message.startswith("area under the ROC is 0.")
    assert "of flights-1.0.0" in held.message
    (unsure,) = against(noisy, old, auc=0.01)
    assert not unsure.held
    low, high = unsure.interval or (0, 0)
    assert low < -0.01
    assert low < (unsure.measured or 0) < high


def test_better_is_better_for_errors_too() -> None:
    old = scored(600, 5)
    better = jittered(old, 0.01, lift=0.2)
    for outcome in against(better, old, "superiority", auc=0, brier=0, logloss=0, accuracy=0):
        assert outcome.held, outcome.message
        assert (outcome.measured or 0) > 0
    for outcome in against(old, better, "superiority", auc=0, brier=0):
        assert not outcome.held


def test_the_same_answers_are_not_worse_and_not_better() -> None:
    old = scored(600)
    assert all(o.held for o in against(old, old, auc=0, accuracy=0, f1=0))
    assert not any(o.held for o in against(old, old, "superiority", auc=0))


def test_a_margin_lets_a_worse_model_pass_as_seldom_as_the_confidence_says() -> None:
    """Models worse by exactly the margin: at 95 %, one in forty passes."""
    passed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = rng.normal(0, 1, 400)
        old = valued(400, seed)._replace(truth=truth, predicted=truth + rng.normal(0, 1, 400))
        wrong = rng.normal(0, 1, 400)
        wrong += np.sign(wrong) * 0.1  # the mean absolute error grows by .1
        new = old._replace(predicted=truth + wrong)
        declared = Incumbent(margins={"mae": 0.1})
        seen = context(
            {"x": np.zeros(400)}, new, rival=Rival("old", old),
            resamples=Resamples(400, replicates=400),
        )  # fmt: skip
        (outcome,) = incumbent.judge(declared, seen)
        passed += outcome.held
    assert passed / 200 <= 0.06


def test_without_an_earlier_release_there_is_nothing_to_be_worse_than() -> None:
    (outcome,) = against(scored(600), None, auc=0.01)
    assert (outcome.held, outcome.judged) == (True, False)


def test_an_incumbent_that_cannot_be_compared_fails_and_says_why() -> None:
    declared = Incumbent(margins={"auc": 0.01})
    rival = Rival("flights-1.0.0", None, "flights-1.0.0 reads 'gust', which the data does not have")
    (outcome,) = incumbent.judge(declared, context(NOTHING, scored(600), rival=rival))
    assert not outcome.held
    assert "reads 'gust'" in outcome.message


@pytest.mark.parametrize("margins", [{"acc": 0.1}, {"auc": -0.1}])
def test_margins_of_unknown_figures_or_below_zero_are_refused(margins: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"gates\.incumbent\.margins"):
        Incumbent(margins=margins)


def segmented(rows: int = 1200) -> tuple[Predictions, dict[str, np.ndarray]]:
    """One carrier of three is much harder than the others; a fourth has ten rows."""
    answered = scored(rows, 8)
    carrier = np.array(["AA", "B6", "UA"])[np.arange(rows) % 3]
    carrier[:10] = "ZZ"
    score = answered.score
    assert score is not None
    blind = np.random.default_rng(1).random(rows)
    moved = np.where(carrier == "UA", blind, score)
    answered = answered._replace(
        probabilities=np.stack([1 - moved, moved], axis=1),
        predicted=np.where(moved > 0.5, "1", "0").astype(object),
    )
    hour = (np.arange(rows) % 24).astype(np.float32)
    hour[5] = np.nan
    return answered, {"carrier": words(carrier), "hour": hour}


def sliced(declared: Slice) -> Outcome:
    answered, columns = segmented()
    (outcome,) = slices.judge([declared], context(columns, answered))
    return outcome


def test_the_segment_that_the_average_hides_is_found_and_small_ones_are_not_judged() -> None:
    outcome = sliced(Slice("carrier", max_gap=0.1))
    assert not outcome.held
    assert outcome.parts[0].name == "UA"
    assert [(p.name, p.held, p.judged) for p in outcome.parts[1:]] == [
        *[(p.name, True, True) for p in outcome.parts[1:3]],
        ("ZZ", True, False),
    ]
    assert "in carrier UA is worse than over all rows by" in outcome.message
    assert outcome.message.endswith("3 segments judged; too few rows to judge: ZZ (10)")


def test_a_gap_within_chance_is_no_failure_however_small_the_limit() -> None:
    answered = scored(1200, 8)
    thirds = words(np.array(["a", "b", "c"])[np.arange(1200) % 3])
    seen = context({"third": thirds}, answered)
    (outcome,) = slices.judge([Slice("third", max_gap=0.0)], seen)
    assert outcome.held
    assert (outcome.measured or 0) > 0


def test_a_floor_holds_in_every_segment_and_bins_cut_numbers() -> None:
    found = sliced(Slice("carrier", floor=0.6))
    assert not found.held
    assert found.threshold == 0.6
    binned = sliced(Slice("hour", bins=(6, 12, 18), floor=0.5, metric="accuracy"))
    assert binned.held
    names = {part.name for part in binned.parts}
    assert names == {"below 6", "6 to 12", "12 to 18", "18 and above", "(missing)"}


def test_the_four_fifths_rule_compares_with_the_most_favoured_segment() -> None:
    answered, columns = segmented()
    said = np.where(np.arange(1200) % 3 == 0, np.arange(1200) % 10 < 3, np.arange(1200) % 10 < 6)
    answered = answered._replace(predicted=np.where(said, "1", "0").astype(object))
    (outcome,) = slices.judge(
        [Slice("carrier", min_rate_ratio=0.8)], context(columns, answered)
    )  # fmt: skip
    assert not outcome.held
    assert outcome.parts[0].name == "AA"
    assert outcome.measured == pytest.approx(0.5, abs=0.03)
    assert "called positive 0." in outcome.message


def test_a_segment_with_one_class_alone_has_no_area_and_is_not_judged() -> None:
    answered, columns = segmented()
    truth = answered.truth.copy()
    truth[columns["carrier"] == "B6"] = "0"
    (outcome,) = slices.judge(
        [Slice("carrier", floor=0.1)], context(columns, answered._replace(truth=truth))
    )
    assert outcome.held
    assert [p.name for p in outcome.parts if not p.judged] == ["B6", "ZZ"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (Slice("pilot", floor=0.5), "no column 'pilot'"),
        (Slice("carrier", bins=(1.0,), floor=0.5), "holds words, and bins are declared"),
        (Slice("hour", metric="rmse", floor=0.5), "has no rmse"),
    ],
)
def test_a_slice_that_cannot_be_made_has_not_held(declared: Slice, message: str) -> None:
    outcome = sliced(declared)
    assert not outcome.held
    assert message in outcome.message


def test_a_slice_with_few_rows_everywhere_is_not_judged() -> None:
    outcome = sliced(Slice("carrier", floor=0.99, min_rows=10_000))
    assert (outcome.held, outcome.judged) == (True, False)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"floor": 1, "metric": "acc"}, {"floor": 1, "bins": (3.0, 2.0)}],
)
def test_a_slice_that_asks_for_nothing_or_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"gates\.slices"):
        Slice("carrier", **wrong)  # type: ignore[arg-type]


def test_the_errors_of_a_regression_are_sliced_with_the_right_sign() -> None:
    answered = valued(900, 1, noise=1.0)
    assert answered.predicted is not None
    plant = np.array(["north", "south"])[np.arange(900) % 2]
    wild = np.where(plant == "south", 4.0, 0.0) * np.random.default_rng(0).normal(0, 1, 900)
    seen = context({"plant": words(plant)}, answered._replace(predicted=answered.predicted + wild))
    (outcome,) = slices.judge([Slice("plant", max_gap=0.5)], seen)
    assert not outcome.held
    assert outcome.parts[0].name == "south"
    assert (outcome.parts[1].measured or 0) < 0
