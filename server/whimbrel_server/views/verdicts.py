"""An alert explained (why, since when, where, at what cost), and its verdict replayed."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from whimbrel_server.views.alerts import AlertView
from whimbrel_server.views.drift import LossView

Outcome = Literal["same", "differs", "incomplete"]


class HappeningView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed on a device, or was changed for it, about when a drift began."""

    at_ms: int
    kind: Literal["version", "rollout", "agent", "label", "clock", "configuration"]
    text: str


class AttributionView(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a drift is about, and what it may come from.

    Args:
        since_ms: about when it began, event time.
        features: what else drifted on the device about then.
        devices: where else the same feature drifted about then.
        others: how many other devices serve the version.
        cohort: a label that all of the drifted share, and most that have it drifted.
        slices: in which slices it is seen; empty: they cannot be told apart.
        calm_slices: in which it is not.
        version_since_ms: since when the device has served the version, event time.
        rollout: the rollout that brought it.
        earlier: the version under which the feature had drifted on the device before.
        near: what else changed about then.
    """

    since_ms: int | None = None
    features: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    others: int = 0
    cohort: str = ""
    slices: tuple[str, ...] = ()
    calm_slices: tuple[str, ...] = ()
    version_since_ms: int | None = None
    rollout: int | None = None
    earlier: str = ""
    near: tuple[HappeningView, ...] = ()


class Paragraph(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an explanation: what it is about, and its sentences."""

    title: str
    sentences: tuple[str, ...]


class InputView(msgspec.Struct, frozen=True, kw_only=True):
    """A window or a period that a verdict stands on."""

    start_ms: int
    end_ms: int
    rows: int


class ExplanationView(msgspec.Struct, frozen=True, kw_only=True):
    """An alert in words, with everything that the words stand on."""

    alert: AlertView
    rule: str = ""
    version: int = 0
    paragraphs: tuple[Paragraph, ...] = ()
    attribution: AttributionView | None = None
    losses: tuple[LossView, ...] = ()
    inputs: tuple[InputView, ...] = ()
    history: int = 0


class DifferenceView(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a verdict, and what recomputing it gave."""

    figure: str
    recorded: Any = None
    recomputed: Any = None


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict recomputed from what is stored.

    Args:
        alert: whose verdict.
        outcome: "same" to the last bit; "differs"; "incomplete": its inputs are not all stored any
            more, or others came, so that nothing is proved either way.
        sentence: all of it in words.
        windows: windows (or days) that went through the rule again.
        recounted: of them, judged anew from their counts in the journal.
        differences: figures that are not the same.
        faults: stored judgements that are not what their counts give, the first few.
        faults_in_all: how many there are.
    """

    alert: int
    rule: str
    version: int
    outcome: Outcome
    sentence: str
    windows: int = 0
    recounted: int = 0
    differences: tuple[DifferenceView, ...] = ()
    faults: tuple[str, ...] = ()
    faults_in_all: int = 0
