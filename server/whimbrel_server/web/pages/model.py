"""The model page as a value: versions, quality over time, drift by feature and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_core.errors import UsageError
from whimbrel_server.views.drift import DriftView
from whimbrel_server.views.history import HistogramView, SeriesPoint
from whimbrel_server.views.models import ModelView, VersionView
from whimbrel_server.views.slices import SliceView
from whimbrel_server.web.heat_map import HeatMap, heat_map

if TYPE_CHECKING:
    from whimbrel_server.port import FleetPort

_DAY_MS = 86_400_000
HISTOGRAMS = 6
RECENT_MS = 28 * _DAY_MS


class ModelQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The page's state, all of it in the address."""

    version: str = ""
    subject: str = "fleet"
    feature: str = ""
    step: Literal["month", "day"] = "month"


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the model page."""

    query: ModelQuery
    model: ModelView
    version: VersionView | None
    subjects: tuple[str, ...]
    quality: dict[str, tuple[SeriesPoint, ...]]
    heat: HeatMap
    drift: DriftView | None
    by_subject: tuple[DriftView, ...]
    histograms: tuple[HistogramView, ...]
    slices: tuple[SliceView, ...] = ()
    recent_from_ms: int | None = None
    recent_until_ms: int | None = None


def model_page(fleet: FleetPort, name: str, query: ModelQuery) -> ModelPage:
    """Return the page of one model.

    Raises:
        UsageError: no such model or version.
    """
    model = fleet.model(name)
    version = _choose(model, query.version)
    number = version.version if version else None
    devices = [d.device for d in fleet.devices() if any(s.name == name for s in d.slots)]
    by_subject = fleet.drift(name, number) if version else ()
    subjects = tuple(
        dict.fromkeys(["fleet", *(v.subject for v in by_subject if v.level == "cohort"), *devices])
    )
    subject = query.subject
    series = (
        fleet.drift_series(
            name,
            number,
            device=subject if subject != "fleet" and "=" not in subject else None,
            cohort=subject if "=" in subject else None,
        )
        if version
        else {}
    )
    until = max((p.end_ms for points in series.values() for p in points), default=None)
    since = None if until is None else until - RECENT_MS
    drift = (
        fleet.span_drift(name, number, subject, since, until)
        if number and since is not None and until is not None
        else None
    )
    order = tuple(f.feature for f in drift.features) if drift else tuple(series)
    names = [query.feature] if query.feature else list(order[:HISTOGRAMS])
    histograms = (
        tuple(fleet.histogram(name, number, subject, f, since, until) for f in names)
        if number and until is not None
        else ()
    )
    return ModelPage(
        query=msgspec.structs.replace(query, version=number or ""),
        model=model,
        version=version,
        subjects=subjects,
        quality=fleet.quality_series(
            name, None, subject if subject in devices else None, query.step
        ),
        heat=heat_map(series, order),
        drift=drift,
        by_subject=by_subject,
        histograms=histograms,
        slices=fleet.slices(name, number, subject, since, until) if number and until else (),
        recent_from_ms=since,
        recent_until_ms=until,
    )


def _choose(model: ModelView, wanted: str) -> VersionView | None:
    """Return the version asked for, else the one that most devices serve, else the newest."""
    if wanted:
        found = next((v for v in model.versions if v.version == wanted), None)
        if found is None:
            raise UsageError(
                f"{model.name} has no version {wanted!r}",
                hint=f"published: {', '.join(v.version for v in model.versions) or 'none'}",
                code="not_found",
            )
        return found
    return max(
        model.versions, key=lambda v: (len(v.devices_serving), v.rows, v.release), default=None
    )
