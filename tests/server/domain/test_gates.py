"""Gates: what waits, what passes, what fails, and what they say."""

from __future__ import annotations

import msgspec
import pytest

from whimbrel_core.profile.quality.estimates import RealisedQuality
from whimbrel_server.domain.gates import (
    DeviceFacts,
    Service,
    WaveFacts,
    evaluate,
    reason,
    verdict,
)
from whimbrel_server.views.rollouts import Gates, GateView

NEW, OLD = "a" * 64, "b" * 64
WELL = DeviceFacts(
    device="lga",
    digest=NEW,
    phase="serving",
    parity_passed=True,
    committed=True,
    rows=500,
    windows=5,
)
GOOD = WaveFacts(
    digest=NEW,
    devices=(WELL,),
    service=Service(requests=500, latency_p50_us=64.0),
    incumbent_service=Service(requests=900, latency_p50_us=64.0),
    output_state="ok",
    quality=RealisedQuality(n=400, auc=0.72, auc_se=0.02),
    incumbent_quality=RealisedQuality(n=900, auc=0.71, auc_se=0.02),
)
ALL = Gates(
    min_rows=100,
    min_windows=2,
    max_error_rate=0.02,
    max_latency_ratio=2.0,
    max_output_state="notice",
    min_auc=0.6,
    max_auc_drop=0.05,
    labels=300,
)


def gate(name: str, facts: WaveFacts, gates: Gates = ALL) -> GateView:
    return next(one for one in evaluate(gates, facts) if one.name == name)


def quality(n: int, auc: float | None, se: float = 0.02) -> WaveFacts:
    return msgspec.structs.replace(GOOD, quality=RealisedQuality(n=n, auc=auc, auc_se=se))


def service(**values: object) -> WaveFacts:
    return msgspec.structs.replace(
        GOOD, service=msgspec.convert({"requests": 500, "latency_p50_us": 64.0, **values}, Service)
    )


def device(**values: object) -> WaveFacts:
    return msgspec.structs.replace(GOOD, devices=(msgspec.structs.replace(WELL, **values),))


def test_a_wave_that_shows_everything_passes() -> None:
    seen = evaluate(ALL, GOOD)
    assert {one.name for one in seen} == {
        "serving",
        "traffic",
        "errors",
        "latency",
        "outputs",
        "auc",
        "auc_drop",
    }
    assert verdict(seen) == "passed", [one.sentence for one in seen]
    assert all(one.sentence for one in seen)


def test_traffic_is_told_in_numbers_that_read_naturally() -> None:
    busy = device(rows=2249, windows=1)
    gates = msgspec.structs.replace(ALL, min_rows=1500, min_windows=1, soak_windows=0)
    (said,) = (one for one in evaluate(gates, busy) if one.name == "traffic")
    assert said.sentence == (
        "each device has served 2,249 rows or more (at least 1,500 needed) "
        "and sent 1 window or more (at least 1 needed)"
    )


@pytest.mark.parametrize(
    ("name", "facts", "state"),
    [
        ("serving", device(digest=OLD), "waiting"),
        ("serving", device(committed=False), "waiting"),
        ("serving", device(parity_passed=False), "waiting"),
        ("serving", device(refused=True, error="parity.differs"), "failed"),
        ("traffic", device(rows=99), "waiting"),
        ("traffic", device(windows=1), "waiting"),
        ("errors", service(requests=0), "waiting"),
        ("errors", service(failed=5), "passed"),
        ("errors", service(failed=100), "failed"),
        ("errors", service(requests=3, failed=1), "failed"),
        ("errors", service(requests=48, failed=2), "waiting"),
        ("latency", service(latency_p50_us=None), "waiting"),
        ("latency", service(latency_p50_us=128.0), "passed"),
        ("latency", service(latency_p50_us=256.0), "failed"),
        ("outputs", msgspec.structs.replace(GOOD, output_state="too_few"), "waiting"),
        ("outputs", msgspec.structs.replace(GOOD, output_state="notice"), "passed"),
        ("outputs", msgspec.structs.replace(GOOD, output_state="warn"), "failed"),
        ("auc", quality(0, None), "waiting"),
        ("auc", quality(299, 0.59), "waiting"),
        ("auc", quality(300, 0.59), "failed"),
        ("auc", quality(300, 0.60), "passed"),
        ("auc", quality(60, 0.30), "failed"),
        ("auc", quality(40, 0.10), "waiting"),
        ("auc_drop", quality(300, 0.65), "failed"),
        ("auc_drop", quality(300, 0.67), "passed"),
        ("auc_drop", quality(60, 0.40), "failed"),
        ("auc_drop", quality(60, 0.64), "waiting"),
    ],
)
def test_each_gate_waits_passes_or_fails_by_its_own_facts(
    name: str, facts: WaveFacts, state: str
) -> None:
    found = gate(name, facts)
    assert found.state == state, found.sentence


def test_without_an_earlier_version_there_is_nothing_to_fall_behind() -> None:
    facts = msgspec.structs.replace(
        GOOD, incumbent_quality=RealisedQuality(n=0), incumbent_service=Service()
    )
    assert gate("auc_drop", facts).state == "passed"
    assert gate("latency", facts).state == "passed"


def test_what_waits_at_the_deadline_has_failed() -> None:
    late = msgspec.structs.replace(device(digest=OLD), overdue=True)
    seen = evaluate(ALL, late)
    assert verdict(seen) == "failed"
    assert "deadline" in reason(seen)
    assert gate("errors", late).state == "passed"


def test_what_is_not_asked_is_not_judged() -> None:
    gates = Gates(max_error_rate=None)
    assert [one.name for one in evaluate(gates, GOOD)] == ["serving", "traffic"]
    assert gate("labels", GOOD, Gates(labels=10)).state == "passed"


def test_one_bad_device_of_many_fails_the_wave() -> None:
    other = msgspec.structs.replace(WELL, device="jfk", refused=True)
    facts = msgspec.structs.replace(GOOD, devices=(WELL, other))
    assert verdict(evaluate(ALL, facts)) == "failed"
    assert "jfk" in reason(evaluate(ALL, facts))


def test_a_slot_that_nobody_uses_can_be_updated_by_asking_for_no_rows() -> None:
    unused = service(requests=0)
    assert gate("errors", unused).state == "waiting"
    assert gate("errors", unused, Gates(min_rows=0)).state == "passed"
