"""Declared segments of the rows."""

from __future__ import annotations

import msgspec

from whimbrel_server.views.drift import DriftState, LossView


class SliceFeatureView(msgspec.Struct, frozen=True, kw_only=True):
    """How a feature of a slice lies to the slice's own reference."""

    feature: str
    state: DriftState
    psi: float


class SliceView(msgspec.Struct, frozen=True, kw_only=True):
    """A declared segment of the rows: how much of it there is, how it drifts, how good it is.

    ``share`` of the rows is in it, ``usual`` in the reference; ``features`` and ``losses`` are
    against the slice's own reference.
    """

    name: str
    condition: str
    rows: int
    share: float
    usual: float
    state: DriftState
    features: tuple[SliceFeatureView, ...] = ()
    losses: tuple[LossView, ...] = ()
    labelled_rows: int = 0
    auc_realised: float | None = None
    accuracy_realised: float | None = None
    mae_realised: float | None = None
