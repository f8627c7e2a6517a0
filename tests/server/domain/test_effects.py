"""An alert of drift says which part of a feature moved, whether or not it has distances."""

from __future__ import annotations

import pytest

from whimbrel_server.domain.effects import describe

EVIDENCE = {
    "what": "location", "psi": 0.31, "w1_sd": 0.52, "null_rate": 0.01, "null_shift": 0.001,
    "log_e": 7.94, "threshold": 7.31,
}  # fmt: skip
SURE = "; log e 7.9, alarm from 7.3"
NONE_LEFT = {"psi": None, "w1_sd": None, "null_rate": 1.0, "null_shift": 0.8}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "location, PSI 0.31, W1/sd 0.52"),
        ({"shift": 0.351}, "location +0.35 sd, PSI 0.31, W1/sd 0.52"),
        ({"shift": -0.7, "what": "scale"}, "scale × 0.50, PSI 0.31, W1/sd 0.52"),
        ({"what": "share of AA", "shift": 0.5, "w1_sd": None}, "share of AA, PSI 0.31"),
        ({"psi": None, "w1_sd": None}, "location"),
        ({"what": "scale", **NONE_LEFT}, "scale, missing values 20 % → 100 %"),
        ({"what": "missing", **NONE_LEFT}, "missing values 20 % → 100 %"),
        (
            {"what": "missing", "psi": 0.004, "w1_sd": None, "null_rate": 0.48, "null_shift": 0.28},
            "missing values 20 % → 48 %, PSI 0.00",
        ),
        (
            {"what": "missing", **NONE_LEFT, "null_rate": 0.004, "null_shift": 0.004},
            "missing values 0 % → 0.4 %",
        ),
    ],
    ids=str,
)
def test_the_sentence_says_what_speaks(changes: dict[str, object], said: str) -> None:
    assert describe({**EVIDENCE, **changes}) == said + SURE


def test_without_numbers_of_the_detector_only_the_effect_is_told() -> None:
    assert describe({**EVIDENCE, "log_e": None}) == "location, PSI 0.31, W1/sd 0.52"
    assert not describe({})
