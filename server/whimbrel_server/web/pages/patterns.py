"""What `/patterns` shows: every component in every state, for whoever changes the stylesheet."""

from __future__ import annotations

import math

import msgspec

from whimbrel_server.views.devices import CountsView
from whimbrel_server.views.drift import DriftState
from whimbrel_server.views.history import HistogramView, SeriesPoint
from whimbrel_server.views.rollouts import GateView, WaveState, WaveView
from whimbrel_server.web import scale
from whimbrel_server.web.heat_map import HeatMap, heat_map
from whimbrel_server.web.pages.device import WindowBar
from whimbrel_server.web.pages.fleet import Tile

_DAY_MS = 86_400_000
_START_MS = 1_735_689_600_000  # 1 January 2025
_TONES: tuple[scale.Tone, ...] = ("none", "ok", "notice", "warn", "severe", "busy")
_WAVES: tuple[WaveState, ...] = (
    "passed",
    "judging",
    "assigning",
    "pending",
    "failed",
    "rolled_back",
)
_EFFECTS = (0.0, 0.01, 0.03, 0.07, 0.12, 0.2, 0.3, 0.6)


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """One of everything."""

    tones: tuple[str, ...]
    states: tuple[str, ...]
    tiles: tuple[Tile, ...]
    trend: tuple[float | None, ...]
    quality: dict[str, tuple[SeriesPoint, ...]]
    heat: HeatMap
    histogram: HistogramView
    windows: tuple[WindowBar, ...]
    waves: tuple[WaveView, ...]
    counts: CountsView


def samples() -> Samples:
    """Return the samples; the same each time."""
    states: tuple[DriftState, ...] = (
        "ok",
        "ok",
        "notice",
        "notice",
        "warn",
        "warn",
        "severe",
        "severe",
    )
    points = tuple(
        SeriesPoint(
            start_ms=_START_MS + i * 30 * _DAY_MS,
            end_ms=_START_MS + (i + 1) * 30 * _DAY_MS,
            rows=1000,
            auc_realised=None if i == 4 else 0.8 - 0.01 * i,  # noqa: PLR2004 - a gap in the line
            auc_expected=0.8 - 0.008 * i,
        )
        for i in range(9)
    )
    drift = {
        "rising": [
            SeriesPoint(
                start_ms=_START_MS + i * _DAY_MS,
                end_ms=_START_MS + (i + 1) * _DAY_MS,
                rows=300,
                psi=e,
                state=s,
            )
            for i, (e, s) in enumerate(zip(_EFFECTS, states, strict=True))
        ],
        "gap": [
            SeriesPoint(
                start_ms=_START_MS + i * _DAY_MS,
                end_ms=_START_MS + (i + 1) * _DAY_MS,
                rows=40,
                state="too_few",
            )
            for i in (0, 1, 5)
        ],
    }
    return Samples(
        tones=_TONES,
        states=tuple(scale.TONE),
        tiles=tuple(
            Tile(name=f"A {tone} tile", value=str(i * 1234), note="what it is made of", tone=tone)
            for i, tone in enumerate(_TONES)
        ),
        trend=tuple(0.1 + 0.08 * math.sin(i / 3) for i in range(40)),
        quality={"1.0.0": points, "1.1.0": points[5:]},
        heat=heat_map(drift, ()),
        histogram=HistogramView(
            feature="temperature",
            kind="numeric",
            cells=tuple(f"{5 * i}–{5 * i + 5}" for i in range(14)),
            reference=tuple(math.exp(-(((i - 5) / 3) ** 2)) / 5.3 for i in range(14)),
            current=tuple(math.exp(-(((i - 7) / 3) ** 2)) / 5.3 for i in range(14)),
            rows=1234,
        ),
        windows=tuple(
            WindowBar(
                start_ms=_START_MS + i * _DAY_MS,
                end_ms=_START_MS + (i + 1) * _DAY_MS,
                rows=200 + 17 * i % 90,
                version="1.0.0",
                state=states[i // 4 % 8],
            )
            for i in range(40)
            if i not in {12, 13, 14}
        ),
        waves=tuple(
            WaveView(
                index=i,
                devices=("north-01", "north-02"),
                state=state,
                gates=(
                    GateView(
                        name="auc",
                        state="passed",
                        value=0.74,
                        limit=0.7,
                        sentence="AUC is 0.740 over 400 labels; at least 0.700 is needed.",
                    ),
                    GateView(
                        name="error_rate",
                        state="failed",
                        value=0.03,
                        limit=0.02,
                        sentence="3.0 % of requests failed; at most 2.0 % may.",
                    ),
                    GateView(
                        name="rows",
                        state="waiting",
                        value=12,
                        limit=200,
                        sentence="north-02 served 12 rows; 200 are needed.",
                    ),
                )
                if state in {"judging", "failed"}
                else (),
            )
            for i, state in enumerate(_WAVES)
        ),
        counts=CountsView(
            device="", received=900, windows=880, merged=60, refused=8, duplicate=14, lost=4
        ),
    )
