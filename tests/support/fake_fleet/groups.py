"""What the devices of the story show together."""

from __future__ import annotations

from tests.support.fake_fleet.story import MARCH, MODEL, NOW
from whimbrel_server.views.groups import (
    DriftingView,
    GatheredView,
    GroupsView,
    OutlierView,
    RollupView,
)


def groups() -> GroupsView:
    rolled = RollupView(
        model=MODEL,
        version="1.1.0",
        feature="temp",
        severity="severe",
        scope="fleet",
        devices=1000,
        count=2,
        drifting=(
            DriftingView(
                device="lga", level="severe", log_e=31.0, alarm=True, since_ms=MARCH, psi=0.6
            ),
            DriftingView(device="jfk", level="warn", log_e=17.5, alarm=False, psi=0.2),
        ),
        alarmed=1,
        gathered=(GatheredView(cohort="region=new-york", drifting=2, devices=2),),
        since_ms=MARCH,
        what="location",
        log_e=31.1,
        threshold=18.9,
        psi=0.0006,
        w1_sd=0.01,
        fleet_psi=0.0006,
        fleet_psi_before=0.0005,
        average=False,
        hidden=True,
        alert=True,
        message="temp of flights 1.1.0 has drifted on 2 of 1,000 devices",
        updated_ms=NOW,
        q=0.05,
    )
    unlike = OutlierView(
        model=MODEL,
        version="1.1.0",
        device="ewr",
        feature="wind",
        what="scale",
        shift=-1.4,
        spread=0.2,
        z=-6.8,
        psi=0.9,
        w1_sd=0.8,
        severity="warn",
        peers="fleet",
        devices=1000,
        since_ms=MARCH,
        periods=3,
        message="wind of flights 1.1.0 on ewr is unlike the others",
    )
    return GroupsView(rollups=(rolled,), outliers=(unlike,))
