"""How the features of the story drift: with the seasons, on some devices more than on others."""

from __future__ import annotations

import itertools
import math
import random

from tests.support.fake_fleet import verdicts
from tests.support.fake_fleet.story import (
    DAY,
    END,
    FEATURES,
    MARCH,
    MODEL,
    OFFSET,
    OUTPUTS,
    PERIODS,
)
from whimbrel_server.views.drift import DriftState, DriftView, FeatureView, FindingView, Level
from whimbrel_server.views.history import HistogramView, SeriesPoint

RANK = {"too_few": 0, "ok": 1, "notice": 2, "warn": 3, "severe": 4}


def state_of(psi: float) -> DriftState:
    """Return the state of an effect, as the design's limits put it."""
    return "severe" if psi >= 0.25 else "warn" if psi >= 0.1 else "notice" if psi >= 0.02 else "ok"


def _effect(feature: str, subject: str, day: float, version: str) -> float:
    seasonal = {
        "temp": 0.6,
        "dewp": 0.5,
        "humid": 0.08,
        "pressure": 0.05,
        "visib": 0.03,
        "wind_gust": 0.06,
    }
    strength = seasonal.get(feature, 0.012)
    # The first version knows winter only; the second learned the summer.
    season = (1 - math.cos(2 * math.pi * (day + 45) / 365)) / 2
    if version != "1.0.0":
        season = 0.25 * max(0.0, math.sin(2 * math.pi * (day - 180) / 365))
    if feature == "carrier" and subject == "lga" and day > 120:
        return 0.15
    return strength * season * OFFSET.get(subject, 0.9)


def series(feature: str, device: str, version: str) -> list[SeriesPoint]:
    start, end = PERIODS[version]
    points = []
    for day in range((end - start) // DAY):
        at = start + day * DAY
        since_march = (at - MARCH) / DAY
        dice = random.Random(f"{feature}{device}{version}{day}")
        if device == "jfk" and 120 <= since_march < 150:
            continue  # its network was cut, and the outbox merged these windows
        psi = max(
            0.0,
            _effect(feature, device, since_march, version) * dice.uniform(0.85, 1.15)
            + dice.gauss(0.002, 0.003),
        )
        few = dice.random() < 0.01
        points.append(
            SeriesPoint(
                start_ms=at,
                end_ms=at + DAY,
                rows=40 if few else dice.randint(240, 360),
                version=version,
                state="too_few" if few else state_of(psi),
                psi=None if few else psi,
                w1_sd=None if few else math.sqrt(psi),
                log_e=min(40.0, psi * 90),
                mean=50 + 40 * psi,
                null_rate=0.01,
            )
        )
    return points


def drift(level: Level, subject: str, version: str) -> DriftView:
    features = []
    for name, unit in [*FEATURES, *((o, None) for o in OUTPUTS)]:
        psi = _effect(name, subject, 230, version)
        state = state_of(psi)
        features.append(
            FeatureView(
                feature=name,
                role="output" if name in OUTPUTS else "input",
                state=state,
                kind="categorical" if name in {"carrier", "label"} else "numeric",
                unit=unit,
                psi=psi + 0.004,
                psi_debiased=psi,
                js=psi / 8,
                ks=math.sqrt(psi) / 3,
                w1_sd=None if name in {"carrier", "label"} else math.sqrt(psi),
                p_value=math.exp(-psi * 80),
                log_e=psi * 90,
                alarm=state in {"warn", "severe"},
                since_ms=MARCH + 90 * DAY if state in {"warn", "severe"} else None,
                null_rate=0.19 if name == "wind_gust" else 0.002,
                reference_null_rate=0.12 if name == "wind_gust" else 0.002,
            )
        )
    features.sort(key=lambda f: (-RANK[f.state], -(f.psi_debiased or 0)))
    return DriftView(
        level=level,
        subject=subject,
        name=MODEL,
        version=version,
        window_start_ms=END - DAY,
        window_end_ms=END,
        rows=301 if level == "device" else 903,
        features=tuple(features),
        worst=features[0].state,
        losses=(verdicts.loss_view(),),
        findings=(
            FindingView(
                feature="wind_gust",
                kind="stuck",
                share=0.97,
                usual=0.02,
                level="severe",
                message="wind_gust has not changed for 291 of 301 rows",
            ),
        )
        if subject == "lga"
        else (),
    )


def histogram(feature: str, offset: float) -> HistogramView:
    cells: tuple[str, ...]
    if feature in {"carrier", "label"}:
        cells = (
            ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "other")
            if feature == "carrier"
            else ("on time", "late")
        )
        raw = [1 / (i + 1.5) for i in range(len(cells))]
        now = [r * (1 + 0.35 * offset * (-1) ** i) for i, r in enumerate(raw)]
        edges: tuple[float, ...] = ()
    else:
        edges = tuple(float(x) for x in range(15, 100, 5))
        cells = (
            f"≤ {edges[0]:g}",
            *(f"{a:g}–{b:g}" for a, b in itertools.pairwise(edges)),
            f"> {edges[-1]:g}",
        )
        raw = [math.exp(-(((i - 5) / 3.2) ** 2)) for i in range(len(cells))]
        now = [math.exp(-(((i - 5 - 5 * offset) / 3.0) ** 2)) for i in range(len(cells))]
    return HistogramView(
        feature=feature,
        kind="categorical" if not edges else "numeric",
        cells=cells,
        edges=edges,
        reference=tuple(r / sum(raw) for r in raw),
        current=tuple(n / sum(now) for n in now),
        unit=dict(FEATURES).get(feature),
        reference_null_rate=0.01,
        current_null_rate=0.012,
        rows=9301,
    )
