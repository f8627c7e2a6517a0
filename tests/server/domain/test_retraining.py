"""When alerts become a request for retraining: once per version and cause."""

from __future__ import annotations

import msgspec
import pytest

from whimbrel_server.domain.retraining import Past, RetrainingPolicy, decide
from whimbrel_server.views.alerts import AlertView

DAY_MS = 86_400_000
NEWEST = {"churn": "1.0.0"}


def alert(number: int, **values: object) -> AlertView:
    base = AlertView(
        id=number,
        at_ms=10 * DAY_MS,
        raised_ms=0,
        kind="drift",
        severity="warn",
        message="",
        device="ewr",
        model="churn",
        version="1.0.0",
        feature="wind",
    )
    return msgspec.structs.replace(base, **values)


def test_many_alerts_of_one_cause_are_one_request() -> None:
    found = decide(
        RetrainingPolicy(),
        [alert(1), alert(2, device="jfk"), alert(3, feature="hour", at_ms=11 * DAY_MS)],
        [],
        NEWEST,
    )
    assert len(found) == 1
    assert found[0].devices == ("ewr", "jfk")
    assert found[0].features == ("hour", "wind")
    assert found[0].alerts == (1, 2, 3)
    assert found[0].at_ms == 11 * DAY_MS


@pytest.mark.parametrize(
    ("policy", "alerts", "past", "newest"),
    [
        (RetrainingPolicy(), [], [], NEWEST),
        (RetrainingPolicy(), [alert(1, severity="notice")], [], NEWEST),
        (RetrainingPolicy(), [alert(1, kind="rollout")], [], NEWEST),
        (RetrainingPolicy(), [alert(1, model="")], [], NEWEST),
        (RetrainingPolicy(devices=2), [alert(1)], [], NEWEST),
        (RetrainingPolicy(), [alert(1)], [], {"churn": "1.1.0"}),
        (RetrainingPolicy(), [alert(1)], [], {}),
        (RetrainingPolicy(), [alert(1)], [Past("churn", "1.0.0", "drift", 0)], NEWEST),
        (
            RetrainingPolicy(cooldown_s=2 * 86_400),
            [alert(1)],
            [Past("churn", "0.9.0", "drift", 9 * DAY_MS)],
            NEWEST,
        ),
    ],
    ids=[
        "nothing",
        "mild",
        "kind",
        "no-model",
        "one-device",
        "superseded",
        "withdrawn",
        "asked",
        "cooldown",
    ],
)
def test_no_request(
    policy: RetrainingPolicy, alerts: list[AlertView], past: list[Past], newest: dict[str, str]
) -> None:
    assert decide(policy, alerts, past, newest) == ()


def test_a_fleet_wide_quality_alert_needs_no_device() -> None:
    found = decide(
        RetrainingPolicy(devices=3), [alert(1, kind="quality", device="", feature="")], [], NEWEST
    )
    assert [one.cause for one in found] == ["quality"]


def test_drift_and_quality_at_once_are_one_request_because_of_the_cooldown() -> None:
    found = decide(RetrainingPolicy(), [alert(1), alert(2, kind="quality")], [], NEWEST)
    assert [one.cause for one in found] == ["drift"]
    found = decide(RetrainingPolicy(cooldown_s=0), [alert(1), alert(2, kind="quality")], [], NEWEST)
    assert [one.cause for one in found] == ["drift", "quality"]
