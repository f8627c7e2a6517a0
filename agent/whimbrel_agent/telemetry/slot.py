"""Everything that is measured of one model in one slot: rows, labels, drift, probation.

Measuring never fails a request: what goes wrong here is logged and counted, and the answer is
given. Not thread-safe: one owner at a time.
"""

from __future__ import annotations

import logging
import math
import secrets
from typing import TYPE_CHECKING, Any

from whimbrel_agent.channel import ClosedWindow, Judgement, LocalEvent
from whimbrel_agent.telemetry import drift as drifts
from whimbrel_agent.telemetry import judge as judges
from whimbrel_agent.telemetry import rate as rates
from whimbrel_agent.telemetry.joiner import LabelJoiner
from whimbrel_agent.telemetry.recorder import Recorder
from whimbrel_agent.telemetry.watchfile import WatchFile
from whimbrel_agent.telemetry.words import KIND as WORDS
from whimbrel_agent.telemetry.words import NewWords
from whimbrel_core.profile import window as windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from whimbrel_agent.channel import ServingSettings
    from whimbrel_agent.telemetry.bundles import KnownBundles
    from whimbrel_agent.telemetry.client import TelemetryClient
    from whimbrel_agent.telemetry.joiner import Label
    from whimbrel_agent.telemetry.recorder import Clocks
    from whimbrel_agent.telemetry.windowfile import ServedModel
    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.errors import RequestError
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.counts import OpsCounts
    from whimbrel_core.profile.window import Window
    from whimbrel_core.wire.assignment import Probation
    from whimbrel_core.wire.messages import Clock

# Refusals that tell of data which are not what the model takes: datatype, shape, kind of values.
MISTYPED = frozenset({"request.datatype", "request.shape", "request.data"})
_log = logging.getLogger("whimbrel.telemetry")


class SlotTelemetry:
    """Measures one served model.

    Args:
        model: slot, name, version and digest.
        manifest: of its bundle.
        baseline: of its bundle.
        settings: of the worker.
        data_dir: the device's.
        client: takes closed windows and events.
        known: finds older bundles.
        clocks: wall and monotonic.
        clock: how far the wall clock is to be trusted.
        probation: how a new version is judged; None when it is committed.
        device: this device's name, under which new words are told; "" tells none.
    """

    def __init__(
        self,
        model: ServedModel,
        manifest: Manifest,
        baseline: Baseline,
        settings: ServingSettings,
        *,
        data_dir: Path,
        client: TelemetryClient,
        known: KnownBundles,
        clocks: Clocks,
        clock: Clock = "unsynced",
        probation: Probation | None = None,
        device: str = "",
    ) -> None:
        self.model = model
        self.rows = 0
        self.troubles = 0
        self._client = client
        self._known = known
        self._settings = settings
        self._directory = data_dir / "profiles"
        self._clocks = clocks
        self._clock: Clock = clock
        self._baseline = baseline
        self._drift = drifts.DriftWatch(
            baseline,
            manifest.drift,
            WatchFile(data_dir / "drift", model.slot, model.digest, drifts.form),
        )
        self._rate = rates.RateWatch(WatchFile(data_dir / "rate", model.slot, "", rates.form))
        self._ending = False
        self._probation = probation
        self._closed: Window | None = None
        self._words = NewWords(baseline.layout, device=device, k=manifest.drift.release_words)
        self.recorder = self._recorder(model, manifest, baseline)
        self._joiner = LabelJoiner(
            self.recorder,
            manifest,
            directory=data_dir / "labels",
            capacity=settings.label_capacity,
            older=self._older,
        )
        self._last: Judgement | None = None

    def record(
        self,
        tensors: Mapping[str, NDArray[Any]],
        rows: int,
        at_ms: int | None = None,
        latency_us: float | None = None,
        ids: Sequence[str] | None = None,
        *,
        row: Sequence[Any] | None = None,
    ) -> None:
        """Count one answered request; ``row`` is as for `record_row`, where there is one."""
        try:
            window = self.recorder.record(tensors, rows, at_ms, latency_us, row)
            self.rows += rows
            if ids is not None:
                self._joiner.remember(ids, tensors, window.start_ms if at_ms is None else at_ms)
        except Exception:  # noqa: BLE001 - measuring never fails a request
            self._trouble("a request could not be counted")

    def record_row(self, row: Sequence[Any], at_ms: int | None, latency_us: float) -> bool:
        """Count one answered request of one row from its values, cheaply.

        Args:
            row: the values of all inputs, then of all outputs, in the manifest's order, flat.
            at_ms: event time; None for now.
            latency_us: from request to answer.

        Returns:
            False when it was not counted: `record` must do it.
        """
        try:
            if not self.recorder.record_row(row, at_ms, latency_us):
                return False
            self.rows += 1
        except Exception:  # noqa: BLE001 - measuring never fails a request
            self._trouble("a request could not be counted")
        return True

    def count_rejected(self, error: RequestError) -> None:
        """Count a request that was refused with ``error`` before the model ran."""
        try:
            self.recorder.count_rejected(mistyped=error.code in MISTYPED)
        except Exception:  # noqa: BLE001 - measuring never fails a request
            self._trouble("a refused request could not be counted")

    def count_failed(self) -> None:
        """Count a request in which the model failed."""
        try:
            self.recorder.count_failed()
        except Exception:  # noqa: BLE001 - measuring never fails a request
            self._trouble("a failed request could not be counted")

    def join(self, labels: Sequence[tuple[str, Label]]) -> int:
        """Join labels to predictions; return how many were. Raises `RequestError`."""
        return self._joiner.join(labels)

    @property
    def joined(self) -> int:
        """Labels joined since this process began."""
        return self._joiner.joined

    @property
    def drift_level(self) -> str:
        """The highest level of drift that is held now."""
        return self._drift.level

    @property
    def on_probation(self) -> bool:
        """Whether this version is still being judged."""
        return self._probation is not None

    def ops(self) -> OpsCounts:
        """Return requests, failures and latencies since this process began."""
        return self.recorder.ops()

    def tick(self) -> None:
        """Close what has ended; call it every second or few."""
        for recorder in (self.recorder, *self._joiner.recorders):
            try:
                recorder.tick()
            except Exception:  # noqa: BLE001, PERF203 - one recorder must not stop another
                self._trouble("a window could not be closed")

    def end_probation(self) -> None:
        """Stop judging: the version is committed."""
        self._probation = None
        self._closed = None

    def judgement(self) -> Judgement | None:
        """Return how the version behaves so far, or None when it is not on probation."""
        if self._probation is None:
            return None
        total = self._closed or windows.empty(self.recorder.layout, 0, 1)
        for window in self.recorder.open_windows:
            total = windows.merge(total, window.window())
        psi = None
        if self._probation.max_output_psi is not None and total.rows:
            outputs = [
                drift.psi
                for drift in self._drift.judge(total)
                if drift.role == "output" and drift.psi is not None and drift.significant
            ]
            psi = max(outputs, default=0.0)
        behaviour = judges.Behaviour(
            rows=total.rows,
            ops=total.ops,
            quality=total.quality,
            binary=self.recorder.layout.binary,
            output_psi=psi,
        )
        opinion = judges.judge(self._probation, behaviour)
        return Judgement(
            slot=self.model.slot,
            digest=self.model.digest,
            verdict=opinion.verdict,
            rows=behaviour.rows,
            labels=behaviour.labels,
            evidence=opinion.evidence,
            reason=opinion.reason,
        )

    def close(self) -> None:
        """Close every window and hand it over."""
        self._ending = True
        for recorder in (self.recorder, *self._joiner.recorders):
            recorder.close()
        self._joiner.close()

    def _recorder(self, model: ServedModel, manifest: Manifest, baseline: Baseline) -> Recorder:
        return Recorder(
            model,
            baseline,
            manifest.drift,
            self._settings,
            directory=self._directory,
            sink=self._on_closed,
            clocks=self._clocks,
            clock=self._clock,
            tensors=_sizes(manifest),
            words=self._words if model.digest == self.model.digest else None,
        )

    def _older(self, digest: str) -> tuple[Recorder, Manifest]:
        baseline, manifest = self._known.get(digest)
        model = type(self.model)(self.model.slot, manifest.name, manifest.version, digest)
        return self._recorder(model, manifest, baseline), manifest

    def _on_closed(self, counted: Window, message: ClosedWindow, path: Path | None) -> None:
        self._client.put(message, path)
        if message.digest != self.model.digest:
            return
        if self._probation is not None:
            self._closed = counted if self._closed is None else windows.merge(self._closed, counted)
        if not counted.rows:
            return
        try:
            for detail in self._words.take():
                self._tell(WORDS, message, detail)
        except Exception:  # noqa: BLE001 - measuring never fails a request
            self._trouble("new words could not be told")
        try:
            turned = self._rate.observe(counted, ending=self._ending)
            if turned is not None:
                self._tell(rates.KIND, message, rates.detail(turned))
        except Exception:  # noqa: BLE001 - measuring never fails a request
            self._trouble("a rate could not be judged")
        try:
            changes = self._drift.observe(counted, message.window_id)
        except Exception:  # noqa: BLE001 - measuring never fails a request
            self._trouble("a window could not be judged")
            return
        for change in changes:
            detail = change.detail() | {"window_start_ms": str(message.start_ms)}
            self._tell("drift", message, detail)

    def _tell(self, kind: str, about: ClosedWindow, detail: dict[str, str]) -> None:
        """Hand over an event about a window that was closed."""
        self._client.put(
            LocalEvent(
                event_id=secrets.token_hex(8),
                at_ms=about.end_ms if about.clock == "event" else self._clocks.wall_ms(),
                kind=kind,
                slot=self.model.slot,
                digest=self.model.digest,
                detail=detail,
            )
        )

    def _trouble(self, what: str) -> None:
        """Log the first of a kind of trouble in full, and count the rest."""
        self.troubles += 1
        if self.troubles <= 3:  # noqa: PLR2004 - enough to see it, too few to fill a disk
            _log.exception("%s: %s; serving goes on", self.model.slot, what)


def _sizes(manifest: Manifest) -> list[tuple[str, int]]:
    """Return name and values per row of every tensor; 0 where the model decides how many."""
    tensors = [(tensor.name, tensor.shape) for tensor in manifest.inputs]
    tensors += [(output.name, output.shape) for output in manifest.outputs]
    return [(name, max(0, math.prod(shape[1:]))) for name, shape in tensors]
