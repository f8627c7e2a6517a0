"""Real profile windows of a made bundle: rows drawn, predicted, counted, labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from whimbrel_core.profile import window as profile_windows
from whimbrel_core.profile.counting.accumulator import Accumulator
from whimbrel_core.profile.counting.memberships import Memberships
from whimbrel_core.wire import codec
from whimbrel_core.wire.messages import WindowMessage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.support.models import MadeBundle
    from whimbrel_core.profile.window import Window

SECOND_MS = 1000


class Counter:
    """Counts windows of one bundle whose model takes one matrix ``x``."""

    def __init__(self, made: MadeBundle, *, seed: int = 0) -> None:
        self.made = made
        self._rng = np.random.default_rng(seed)
        self._session = ort.InferenceSession(made.recipe.model, providers=["CPUExecutionProvider"])
        # The truth that `tests.support.models.logistic` drew its labels from (seed 0).
        self._weights: NDArray[np.float32] = (
            np.random.default_rng(0)
            .normal(size=(made.recipe.rows["x"].shape[1],))
            .astype(np.float32)
        )

    def window(
        self,
        start_ms: int,
        *,
        rows: int = 200,
        seconds: int = 300,
        shift: float = 0.0,
        labels: bool = False,
        failed: int = 0,
        stuck: bool = False,
        where_positive: int | None = None,
    ) -> Window:
        """Return the counts of ``rows`` fresh rows; ``shift`` moves the first column.

        ``stuck``: the first column has one value in all of them. ``where_positive``: only rows in
        which that column is above zero are shifted.
        """
        accumulator, layout = Accumulator(self.made.baseline), self.made.baseline.layout
        x = self._rng.normal(size=(rows, len(self._weights))).astype(np.float32)
        moved = slice(None) if where_positive is None else x[:, where_positive] > 0
        x[moved, 0] += np.float32(shift)
        if stuck:
            x[:, 0] = 0.25
        names = [output.name for output in self.made.recipe.outputs]
        answers = dict(zip(names, self._session.run(names, {"x": x}), strict=True))
        accumulator.update({"x": x, **answers})
        for _ in range(rows):
            accumulator.count_request(40.0)
        for _ in range(failed):
            accumulator.count_failed()
        if labels:
            within = Memberships(layout).of({"x": x, **answers}, rows)
            odds = x @ self._weights + self._rng.logistic(size=rows)
            for row in range(rows):
                score = float(answers["probabilities"][row, 1])
                accumulator.record_label(
                    layout.score_bin(score),
                    int(answers["label"][row]),
                    int(odds[row] > 0),
                    within[row],
                )
        return accumulator.window(start_ms, start_ms + seconds * SECOND_MS)


def payload(window: Window) -> bytes:
    """Return the wire form of a window."""
    return profile_windows.encode(window)


def message(
    made: MadeBundle, window: Window, *, device: str, epoch: str, seq: int, slot: str = "churn"
) -> bytes:
    """Return the message that a device sends of a window of ``made``."""
    return codec.encode(
        WindowMessage(
            device=device,
            epoch=epoch,
            seq=seq,
            slot=slot,
            name=made.manifest.name,
            version=made.manifest.version,
            digest=made.digest,
            profile_id=made.baseline.profile_id,
            start_ms=window.start_ms,
            end_ms=window.end_ms,
            rows=window.rows,
            payload=payload(window),
            clock="event",
        )
    )
