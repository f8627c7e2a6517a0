"""Many alerts are a short list: nothing worse is below, nothing is left out, history is apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_server.views import AlertView, DeviceView, SlotView
from whimbrel_server.web import attention, scale

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient

    from tests.support.fake_fleet import FakeFleet

alerts = st.lists(
    st.builds(
        AlertView,
        id=st.integers(1, 10**6),
        at_ms=st.integers(0, 10**6),
        raised_ms=st.integers(0, 10**6),
        kind=st.sampled_from(["drift", "quality", "device", "rollout", "retraining"]),
        severity=st.sampled_from(["notice", "warn", "severe"]),
        message=st.just("m"),
        device=st.sampled_from(["", "ewr", "lga"]),
        model=st.just("flights"),
        version=st.sampled_from(["", "1.0.0", "1.1.0"]),
        feature=st.sampled_from(["", "temp", "dewp", "humid", "wind", "visib"]),
    ),
    max_size=30,
    unique_by=lambda a: a.id,
)


@given(alerts)
def test_every_alert_is_in_one_line_and_lines_are_worst_first(found: list[AlertView]) -> None:
    made = attention.groups(found)
    assert sorted(a.id for g in made for a in g.alerts) == sorted(a.id for a in found)
    ranks = [scale.RANK[g.severity] for g in made]
    assert ranks == sorted(ranks, reverse=True)
    for group in made:
        assert scale.RANK[group.severity] == max(scale.RANK[a.severity] for a in group.alerts)
        assert len({(a.device, a.model, a.version) for a in group.alerts}) == 1
        if len(group.alerts) > 1:
            assert {a.kind for a in group.alerts} == {"drift"}


@given(alerts)
def test_alerts_of_versions_that_nobody_serves_are_history(found: list[AlertView]) -> None:
    slot = SlotView(slot="s", phase="serving", name="flights", version="1.1.0")
    now, before = attention.divided(found, [DeviceView(device="lga", slots=(slot,))])
    assert sorted(a.id for a in (*now, *before)) == sorted(a.id for a in found)
    assert {a.version for a in before} <= {"1.0.0"}
    assert not any(a.kind in {"rollout", "device"} for a in before)
    assert not any(a.version == "1.0.0" and a.kind == "drift" for a in now)
    assert attention.divided(found, []) == (tuple(found), ()), "nothing is known to be served"


def drifting(fleet: FakeFleet, devices: int) -> None:
    """Let four features drift on each of many devices, one of them severely, with new ids."""
    like = next(a for a in fleet._alerts if a.kind == "drift")
    fleet._alerts = [
        msgspec.structs.replace(
            like,
            id=100 + 4 * d + f,
            device=f"till-{d:02}",
            version="1.1.0",
            feature=feature,
            severity="severe" if (d, feature) == (devices - 1, "visib") else "warn",
            message=f"{feature} has drifted on till-{d:02}",
            state="open",
        )
        for d in range(devices)
        for f, feature in enumerate(("temp", "dewp", "humid", "visib"))
    ]


def test_a_fleet_that_drifts_is_a_page_of_lines_and_the_worst_is_on_top(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    drifting(fleet, 20)
    page = client.get("/fleet.json").json()
    assert (page["alerts_open"], len(page["alerts"]), page["alerts_left"]) == (80, 8, 12)
    assert page["alerts"][0]["severity"] == "severe"
    assert (
        page["alerts"][0]["message"]
        == "visib, temp, dewp and humid of flights 1.1.0 have drifted on till-19"
    )
    text = client.get("/").text
    assert "Show 12 more" in text
    assert "humid has drifted on till-19" in text, "every member is in the page"
    assert len(client.get("/fleet.json?alerts=all").json()["alerts"]) == 20
    assert "Show 12 more" not in client.get("/?alerts=all").text


def test_the_alerts_of_a_device_have_a_heading(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    drifting(fleet, 1)
    fleet._alerts = [msgspec.structs.replace(a, device="lga") for a in fleet._alerts]
    text = client.get("/devices/lga").text
    assert 'Open alerts <span class="count">4</span>' in text
    assert "All 4" in text
