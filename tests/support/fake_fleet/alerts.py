"""The alerts of the story."""

from __future__ import annotations

from tests.support.fake_fleet import verdicts
from tests.support.fake_fleet.story import DAY, DIGESTS, END, MARCH, MODEL, NOW
from whimbrel_server.views.alerts import AlertView


def alerts() -> list[AlertView]:
    return [
        AlertView(
            id=4,
            at_ms=END - 17 * DAY,
            raised_ms=NOW - 1_800_000,
            kind="rollout",
            severity="severe",
            device="lga",
            model=MODEL,
            version="1.2.0",
            updated_ms=NOW,
            message="Rollout 2 of flights 1.2.0 stopped at wave 1: AUC is 0.470 over 212 labels, at least 0.600 is needed. LGA is back on 1.1.0; no other device saw it.",
            evidence={"auc": 0.47, "labels": 212, "limit": 0.6},
        ),
        AlertView(
            id=3,
            at_ms=MARCH + 122 * DAY,
            raised_ms=NOW - 5_400_000,
            kind="drift",
            severity="severe",
            device="lga",
            model=MODEL,
            version="1.0.0",
            feature="temp",
            updated_ms=NOW,
            message="temp on lga has moved: PSI 0.61 (severe from 0.25), e-value 10^23 against a limit of 10^4.6.",
            evidence=verdicts.verdict_of(
                "lga", DIGESTS["1.0.0"], "temp", MARCH + 122 * DAY
            ).evidence(),
            loss=verdicts.loss_view(),
        ),
        AlertView(
            id=2,
            at_ms=MARCH + 96 * DAY,
            raised_ms=NOW - 9_400_000,
            kind="drift",
            severity="warn",
            device="jfk",
            model=MODEL,
            version="1.0.0",
            feature="dewp",
            state="acknowledged",
            acknowledged_by="operator",
            updated_ms=NOW,
            message="dewp on jfk has moved: PSI 0.18 (warn from 0.10).",
            evidence={"psi": 0.18},
        ),
        AlertView(
            id=1,
            at_ms=MARCH + 60 * DAY,
            raised_ms=NOW - 12_400_000,
            kind="retraining",
            severity="notice",
            model=MODEL,
            version="1.0.0",
            state="closed",
            updated_ms=NOW,
            message="Retraining of flights was requested after the alarm on temp (lga); the command ended with 0.",
        ),
    ]
