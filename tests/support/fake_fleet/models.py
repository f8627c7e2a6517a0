"""The model of the story: its versions, and how good they were."""

from __future__ import annotations

import math
import random
from typing import Any

from tests.support.fake_fleet.story import DAY, DEVICES, DIGESTS, MARCH, MODEL, NOW, PERIODS
from whimbrel_core.identity import sha256
from whimbrel_server.views.history import SeriesPoint
from whimbrel_server.views.models import ModelView, VersionView


def model() -> ModelView:
    def version(number: str, release: int, serving: tuple[str, ...], **more: Any) -> VersionView:  # noqa: ANN401 - passed on by name
        return VersionView(
            version=number,
            release=release,
            digest=DIGESTS[number],
            path=f"bundles/{MODEL}/{MODEL}-{number}.whim",
            length=812_344 + release,
            profile_id=sha256(b"p"),
            published_ms=NOW - (40 - release * 9) * DAY,
            task="classification",
            classes=("on time", "late"),
            description="Departs more than 15 minutes late.",
            devices_serving=serving,
            metrics={"auc": 0.742},
            **more,
        )

    return ModelView(
        name=MODEL,
        latest="1.2.0",
        versions=(
            version(
                "1.2.0",
                3,
                (),
                rows=212,
                labelled_rows=212,
                state="warn",
                auc_realised=0.47,
                auc_expected=0.66,
                accuracy_realised=0.55,
            ),
            version(
                "1.1.0",
                2,
                DEVICES,
                rows=110_020,
                labelled_rows=108_900,
                state="warn",
                auc_realised=0.731,
                auc_expected=0.735,
                accuracy_realised=0.803,
                error_rate=0.0,
                latency_p99_us=410.0,
            ),
            version(
                "1.0.0",
                1,
                (),
                rows=162_601,
                labelled_rows=160_113,
                state="severe",
                auc_realised=0.662,
                auc_expected=0.71,
                accuracy_realised=0.761,
                error_rate=0.0001,
                latency_p99_us=395.0,
            ),
        ),
    )


def quality(version: str, step: str, device: str | None) -> tuple[SeriesPoint, ...]:
    start, end = PERIODS[version]
    length = 30 * DAY if step == "month" else DAY
    points = []
    for at in range(start, end, length):
        day = (at - MARCH) / DAY
        dice = random.Random(f"{version}{device}{day}")
        season = (1 - math.cos(2 * math.pi * (day + 45) / 365)) / 2
        true = {"1.0.0": 0.74 - 0.12 * season, "1.1.0": 0.735, "1.2.0": 0.47}[
            version
        ] + dice.uniform(-0.012, 0.012)
        points.append(
            SeriesPoint(
                start_ms=at,
                end_ms=min(at + length, end),
                rows=9_000,
                version=version,
                labelled_rows=8_900,
                auc_realised=true,
                auc_expected={"1.2.0": 0.66}.get(version, 0.735 - 0.03 * season),
                accuracy_realised=true + 0.07,
                accuracy_expected=0.8,
                error_rate=0.0001 + dice.random() / 5e3,
                latency_p50_us=210 + 30 * dice.random(),
                latency_p99_us=390 + 60 * dice.random(),
            )
        )
    return tuple(points)
