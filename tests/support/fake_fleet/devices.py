"""The devices of the story, what happened on them, and their bookkeeping."""

from __future__ import annotations

from typing import Any

from tests.support.fake_fleet.story import DAY, DEVICES, DIGESTS, END, MARCH, MODEL, NOW
from whimbrel_server.views.devices import CountsView, DeviceView, EventView, SlotView

COUNTS = (
    CountsView(
        device="ewr",
        received=331,
        windows=306,
        rows=98_220,
        merged=0,
        duplicate=14,
        bytes=478_113,
    ),
    CountsView(
        device="jfk",
        received=302,
        windows=277,
        rows=90_402,
        merged=29,
        duplicate=3,
        bytes=421_870,
    ),
    CountsView(
        device="lga",
        received=345,
        windows=306,
        rows=84_211,
        duplicate=41,
        refused=1,
        lost=2,
        bytes=491_002,
    ),
)


def devices() -> list[DeviceView]:
    def slot(version: str, wanted: str = "", **more: Any) -> SlotView:  # noqa: ANN401 - passed on by name
        return SlotView(
            slot=MODEL,
            phase="serving",
            name=MODEL,
            version=version,
            digest=DIGESTS[version],
            release=int(version[2]) + 1,
            wanted_version=wanted or version,
            wanted_digest=DIGESTS[wanted or version],
            committed=True,
            **more,
        )

    common: dict[str, Any] = {
        "agent_version": "0.1.0",
        "revision_desired": 5,
        "revision_seen": 5,
        "clock": "synced",
        "enrolled_ms": NOW - 40 * DAY,
        "bytes_downloaded": 2_411_224,
        "last_window_end_ms": END,
    }
    return [
        DeviceView(
            device="ewr",
            labels={"city": "newark", "ring": "stable"},
            online=True,
            last_seen_ms=NOW - 8_000,
            epoch="51c2f0aa9be4d7e1",
            slots=(slot("1.1.0"),),
            memory_available_bytes=310 << 20,
            disk_free_bytes=12 << 30,
            worst_state="notice",
            worst_feature="dewp",
            windows_received=306,
            rows_received=98_220,
            **common,
        ),
        DeviceView(
            device="jfk",
            labels={"city": "queens", "ring": "stable"},
            online=False,
            last_seen_ms=NOW - 3 * 3_600_000,
            epoch="77aa00b1c2d3e4f5",
            outbox_rows=29,
            slots=(slot("1.1.0"),),
            memory_available_bytes=288 << 20,
            disk_free_bytes=9 << 30,
            worst_state="warn",
            worst_feature="temp",
            windows_received=277,
            rows_received=90_402,
            **common,
        ),
        DeviceView(
            device="lga",
            labels={"city": "queens", "ring": "canary"},
            online=True,
            last_seen_ms=NOW - 2_000,
            epoch="0d3e77fe12aa34bc",
            slots=(
                slot(
                    "1.1.0",
                    error_code="probation.auc",
                    error="1.2.0 was taken back: AUC .47 over 212 labels, .60 is needed",
                ),
            ),
            quarantined=(DIGESTS["1.2.0"],),
            memory_available_bytes=301 << 20,
            disk_free_bytes=11 << 30,
            worst_state="severe",
            worst_feature="temp",
            windows_received=306,
            rows_received=84_211,
            **common,
        ),
        DeviceView(device="pump-07", labels={"ring": "stable"}, enrolled_ms=NOW - DAY),
    ]


def events() -> list[EventView]:
    events = []
    for version, day in (("1.0.0", 0), ("1.1.0", 190), ("1.2.0", 286)):
        for device in DEVICES if version != "1.2.0" else ("lga",):
            at = MARCH + day * DAY
            steps = ["assigned", "fetched", "probed", "switched"]
            steps += ["failed", "rolled_back"] if version == "1.2.0" else ["passed"]
            for i, step in enumerate(steps):
                back = step == "rolled_back"
                named = {"name": MODEL, "version": "1.1.0" if back else version}
                failed = {"code": "probation.failed", "reason": "the AUC is 0.470, at least 0.600"}
                events.append(
                    EventView(
                        at_ms=NOW - (300 - day) * 3_600_000 + i * 45_000,
                        device=device,
                        kind=f"update.{step}",
                        slot=MODEL,
                        digest=DIGESTS[named["version"]],
                        detail={} if i < 2 else named | (failed if step == "failed" else {}),
                        received_ms=NOW,
                    )
                )
            if version == "1.0.0":
                events.append(
                    EventView(
                        at_ms=at + 121 * DAY,
                        device=device,
                        kind="drift",
                        slot=MODEL,
                        digest=DIGESTS[version],
                        detail={
                            "feature": "temp",
                            "before": "warn",
                            "now": "severe",
                            "psi": "0.6100",
                            "w1_sd": "0.7810",
                            "window_start_ms": str(at + 120 * DAY),
                        },
                        received_ms=NOW,
                    )
                )
    return events
