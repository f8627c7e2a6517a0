"""A verdict: complete, readable again from the store, and compared to the last bit."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain import verdict
from whimbrel_server.domain.verdict import Input


def made(**changes: object) -> verdict.Verdict:
    usual: dict[str, object] = {
        "digest": "ab" * 32,
        "profile_id": "cd" * 32,
        "subject": "d:lga",
        "feature": "x0",
        "inputs": [Input(at, f"e/{at:020d}", at + 1, 100) for at in range(40)],
        "thresholds": {"log_e": 7.3},
        "figures": {"log_e": 12.0, "psi": 0.3},
        "policy": alarms.Policy(),
    }
    return verdict.reached(verdict.DEVICE_DRIFT, **{**usual, **changes})  # type: ignore[arg-type]


def test_a_verdict_comes_back_from_the_store_as_it_was() -> None:
    given_one = made()
    stored = msgspec.json.decode(msgspec.json.encode(given_one.evidence()))
    assert verdict.read(stored) == given_one


def test_the_policy_in_it_is_the_whole_policy() -> None:
    policy = alarms.Policy(confirm_windows=5)
    stored = msgspec.json.decode(msgspec.json.encode(made(policy=policy).evidence()))
    assert msgspec.convert(stored["policy"], alarms.Policy) == policy


def test_of_a_long_history_the_newest_windows_are_written_out_and_all_are_counted() -> None:
    found = made()
    assert len(found.inputs) == verdict.MAX_WINDOWS
    assert (found.inputs[-1].start_ms, found.at_ms) == (39, 39)
    assert (found.history, found.first_ms) == (40, 0)


@pytest.mark.parametrize(
    ("subject", "level"), [("d:lga", "device"), ("c:site=ny", "cohort"), ("fleet", "fleet")]
)
def test_the_level_follows_from_the_subject(subject: str, level: str) -> None:
    assert made(subject=subject).level == level


def test_a_verdict_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a window at least"):
        made(inputs=[])


def test_an_alert_that_is_no_judgement_has_no_verdict() -> None:
    assert verdict.read({"rollout": 3, "state": "failed"}) is None


FIGURES = st.dictionaries(
    st.sampled_from(["psi", "log_e", "rows"]),
    st.one_of(st.none(), st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False)),
)


@given(FIGURES)
def test_figures_do_not_differ_from_themselves_read_from_the_store(
    figures: dict[str, object],
) -> None:
    stored = msgspec.json.decode(msgspec.json.encode(figures))
    assert verdict.differences(stored, figures) == ()


@given(FIGURES, FIGURES)
def test_equal_means_equal_to_the_last_bit(a: dict[str, object], b: dict[str, object]) -> None:
    assert (verdict.differences(a, b) == ()) is (a == b)


def test_the_next_float_is_a_difference() -> None:
    (found,) = verdict.differences({"log_e": 7.3}, {"log_e": math.nextafter(7.3, 8)})
    assert (found.figure, found.recorded) == ("log_e", 7.3)


def test_a_figure_that_only_one_side_has_is_a_difference() -> None:
    assert len(verdict.differences({"psi": None}, {})) == 1
