"""REST: models, their versions, drift and quality."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Controller, get
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from whimbrel_server.api.access import may_read
from whimbrel_server.api.dependency import Fleet
from whimbrel_server.api.responses import READS
from whimbrel_server.views.drift import DriftView, Level
from whimbrel_server.views.groups import GroupsView
from whimbrel_server.views.history import HistogramView, SeriesPoint
from whimbrel_server.views.models import ModelView, WordsView
from whimbrel_server.views.slices import SliceView

ModelPath = Annotated[
    str, PathParameter(description="the model's name", examples=[Example(value="flights")])
]
Since = Annotated[
    int | None,
    QueryParameter(name="since_ms", description="event time, ms since 1970 UTC, inclusive"),
]
Until = Annotated[
    int | None,
    QueryParameter(name="until_ms", description="event time, ms since 1970 UTC, exclusive"),
]


class ModelsController(Controller):
    """Published models, and how they do in the field."""

    path = "/models"
    tags = ("models",)

    @get(guards=[may_read], summary="List models", responses=READS, sync_to_thread=True)
    def all(self, fleet: Fleet) -> tuple[ModelView, ...]:
        """Return every published model with its versions, newest release first."""
        return fleet.models()

    @get(
        "/{name:str}",
        guards=[may_read],
        summary="Get one model",
        responses=READS,
        sync_to_thread=True,
    )
    def one(self, fleet: Fleet, name: ModelPath) -> ModelView:
        """Return one model."""
        return fleet.model(name)

    @get(
        "/{name:str}/drift",
        guards=[may_read],
        summary="Judge drift now",
        responses=READS,
        sync_to_thread=True,
    )
    def drift(
        self,
        fleet: Fleet,
        name: ModelPath,
        version: Annotated[str | None, QueryParameter(description="only this version")] = None,
        level: Annotated[
            Level | None, QueryParameter(description="only device, cohort or fleet")
        ] = None,
        subject: Annotated[
            str | None, QueryParameter(description="a device, `key=value`, or `fleet`")
        ] = None,
    ) -> tuple[DriftView, ...]:
        """Return the newest judgement of each subject, worst first: evidence and effect."""
        return fleet.drift(name, version, level, subject)

    @get(
        "/{name:str}/groups",
        guards=[may_read],
        summary="Look at all devices together",
        responses=READS,
        sync_to_thread=True,
    )
    def groups(
        self,
        fleet: Fleet,
        name: ModelPath,
        version: Annotated[str | None, QueryParameter(description="only this version")] = None,
    ) -> GroupsView:
        """Return on how many devices features drift, where, and which devices are unlike others.

        The devices of a roll-up are a controlled list: on average `q` of them at most do not drift.
        """
        return fleet.groups(name, version)

    @get(
        "/{name:str}/words",
        guards=[may_read],
        summary="New words of categories",
        responses=READS,
        sync_to_thread=True,
    )
    def words(
        self,
        fleet: Fleet,
        name: ModelPath,
        version: Annotated[
            str | None, QueryParameter(description="default: the newest release")
        ] = None,
    ) -> WordsView:
        """Return words that the vocabulary lacks, once enough devices have met them."""
        return fleet.words(name, version)

    @get(
        "/{name:str}/slices",
        guards=[may_read],
        summary="Get the slices",
        responses=READS,
        sync_to_thread=True,
    )
    def slices(  # noqa: PLR0917 - Litestar's way to declare a query
        self,
        fleet: Fleet,
        name: ModelPath,
        version: Annotated[
            str | None, QueryParameter(description="default: the newest release")
        ] = None,
        subject: Annotated[
            str, QueryParameter(description="a device, key=value, or fleet")
        ] = "fleet",
        since_ms: Annotated[int | None, QueryParameter(description="not before")] = None,
        until_ms: Annotated[int | None, QueryParameter(description="before")] = None,
    ) -> tuple[SliceView, ...]:
        """Return declared segments of the rows: how each drifts, and how good the model is there."""
        return fleet.slices(name, version, subject, since_ms, until_ms)

    @get(
        "/{name:str}/series",
        guards=[may_read],
        summary="Drift over time",
        responses=READS,
        sync_to_thread=True,
    )
    def series(
        self,
        fleet: Fleet,
        name: ModelPath,
        *,
        since_ms: Since = None,
        until_ms: Until = None,
        version: Annotated[
            str | None, QueryParameter(description="default: the newest that serves")
        ] = None,
        device: Annotated[str | None, QueryParameter(description="one device")] = None,
        cohort: Annotated[
            str | None, QueryParameter(description="devices with a label, `key=value`")
        ] = None,
        feature: Annotated[str | None, QueryParameter(description="one feature")] = None,
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return drift over event time by feature; neither device nor cohort: the fleet."""
        return fleet.drift_series(
            name,
            version,
            device=device,
            cohort=cohort,
            feature=feature,
            since_ms=since_ms,
            until_ms=until_ms,
        )

    @get(
        "/{name:str}/histogram",
        guards=[may_read],
        summary="Compare a feature's distribution",
        responses=READS,
        sync_to_thread=True,
    )
    def histogram(
        self,
        fleet: Fleet,
        name: ModelPath,
        *,
        version: Annotated[str, QueryParameter(examples=[Example(value="1.0.0")])],
        feature: Annotated[str, QueryParameter(examples=[Example(value="temp")])],
        subject: Annotated[
            str, QueryParameter(description="a device, `key=value`, or `fleet`")
        ] = "fleet",
        since_ms: Since = None,
        until_ms: Until = None,
    ) -> HistogramView:
        """Return the signed reference against what was seen, as fractions over the same cells."""
        return fleet.histogram(name, version, subject, feature, since_ms, until_ms)

    @get(
        "/{name:str}/quality",
        guards=[may_read],
        summary="Quality over time",
        responses=READS,
        sync_to_thread=True,
    )
    def quality(
        self,
        fleet: Fleet,
        name: ModelPath,
        version: Annotated[str | None, QueryParameter(description="only this version")] = None,
        device: Annotated[str | None, QueryParameter(description="one device")] = None,
        step: Annotated[
            Literal["month", "day"], QueryParameter(description="length of a bucket")
        ] = "month",
    ) -> dict[str, tuple[SeriesPoint, ...]]:
        """Return realised (joined labels) and expected (calibration) quality by version."""
        return fleet.quality_series(name, version, device, step)
