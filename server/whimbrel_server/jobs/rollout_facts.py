"""What a rollout's gates are asked about: facts from reports and aggregates of its present wave."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile import window as profile_windows
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.quality.estimates import RealisedQuality, realised
from whimbrel_core.profile.watching import alarms
from whimbrel_server.domain import gates
from whimbrel_server.domain.devices import slot_of
from whimbrel_server.domain.subjects import device_subject
from whimbrel_server.domain.totals import Totals
from whimbrel_server.operations.rollout_moves import Before
from whimbrel_server.store import aggregates

if TYPE_CHECKING:
    import sqlalchemy as sa

    from whimbrel_server.repository import Repository
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.store.rollouts import Stored
    from whimbrel_server.views.drift import DriftState

# The incumbent is judged by its newest days with labels, not by its whole life: what the season
# was when it was young is no comparison.
_INCUMBENT_DAYS = 60
# It hardly changes while the wave is judged, and merging it is the dearest part of a look.
_INCUMBENT_S = 5.0


class Facts:
    """Finds them in the store, the registry and the repository."""

    def __init__(self, registry: Registry, repository: Repository) -> None:
        self._registry, self._repository = registry, repository
        self._incumbents: dict[
            tuple[int, int], tuple[float, tuple[gates.Service, RealisedQuality]]
        ] = {}

    def of_wave(self, connection: sa.Connection, rollout: Stored, now_ms: int) -> gates.WaveFacts:
        """Return the facts of a rollout's present wave."""
        plan, wave = rollout.plan, rollout.plan.current
        layout = self._repository.contents(rollout.digest).baseline.layout
        whole = Totals(layout)
        facts = []
        for device in wave.devices:
            since = self._since_start(connection, rollout, device)
            whole.add(since)
            facts.append(self._device_facts(rollout, device, since))
        incumbent_service, incumbent_quality = self._incumbent(connection, rollout)
        window = whole.window()
        started = wave.started_ms if wave.started_ms is not None else now_ms
        return gates.WaveFacts(
            digest=rollout.digest,
            devices=tuple(facts),
            overdue=now_ms - started > plan.spec.deadline_s * 1000,
            service=_service(window),
            incumbent_service=incumbent_service,
            output_state=self._output_state(rollout.digest, window),
            quality=_quality(window, binary=layout.binary),
            incumbent_quality=incumbent_quality,
        )

    def _since_start(self, connection: sa.Connection, rollout: Stored, device: str) -> Totals:
        """Return what the new version counted on a device since its wave started."""
        layout = self._repository.contents(rollout.digest).baseline.layout
        subject = device_subject(device)
        found = aggregates.periods(connection, rollout.digest, subject, "all")
        totals = aggregates.total(layout, found)
        before = rollout.plan.before.get(device)
        if before is not None:
            period = msgspec.msgpack.decode(before, type=Before)
            earlier = Totals.of(layout, profile_windows.decode(period.payload), period.windows)
            totals = totals.without(earlier)
        return totals

    def _device_facts(self, rollout: Stored, device: str, since: Totals) -> gates.DeviceFacts:
        record = self._registry.get(device)
        state = record.state if record else None
        report = slot_of(state, rollout.slot)
        # A report from before the device saw the assignment says nothing about it.
        current = state is not None and state.revision >= rollout.plan.revisions.get(device, 0)
        refused = state is not None and current and rollout.digest in state.quarantined
        if report is None or not current:
            return gates.DeviceFacts(
                device=device, refused=refused, rows=since.rows, windows=since.windows
            )
        return gates.DeviceFacts(
            device=device,
            digest=report.digest,
            phase=report.phase,
            parity_passed=report.parity_passed,
            committed=report.committed and report.phase == "serving",
            refused=refused,
            error=report.error_code or report.error,
            rows=since.rows,
            windows=since.windows,
        )

    def _incumbent(
        self, connection: sa.Connection, rollout: Stored
    ) -> tuple[gates.Service, RealisedQuality]:
        """Return how the replaced versions did on the wave's devices in their newest days."""
        key = (rollout.id, rollout.plan.wave)
        known_at, known = self._incumbents.get(key, (0.0, None))
        if known is not None and time.monotonic() - known_at < _INCUMBENT_S:
            return known
        found = self._judge_incumbent(connection, rollout)
        self._incumbents = {key: (time.monotonic(), found)}
        return found

    def _judge_incumbent(
        self, connection: sa.Connection, rollout: Stored
    ) -> tuple[gates.Service, RealisedQuality]:
        by_digest: dict[str, Totals] = {}
        for device in rollout.plan.current.devices:
            previous = rollout.plan.previous.get(device)
            if previous is None or self._repository.get(previous.digest) is None:
                continue
            layout = self._repository.contents(previous.digest).baseline.layout
            found = aggregates.periods(
                connection,
                previous.digest,
                device_subject(device),
                "day",
                newest=_INCUMBENT_DAYS,
            )
            together = by_digest.setdefault(previous.digest, Totals(layout))
            together.add(aggregates.total(layout, found))
        if not by_digest:
            return gates.Service(), RealisedQuality(n=0)
        # Devices that came from different versions: the one with the most labels is the measure.
        digest, totals = max(by_digest.items(), key=lambda item: (item[1].labels, item[0]))
        layout = self._repository.contents(digest).baseline.layout
        window = totals.window()
        return _service(window), _quality(window, binary=layout.binary)

    def _output_state(self, digest: str, window: profile_windows.Window) -> DriftState:
        contents = self._repository.contents(digest)
        policy = alarms.policy_for(contents.manifest.drift, streams=1)
        if window.rows < policy.thresholds.min_rows:
            return "too_few"
        judged = Judge(contents.baseline, thresholds=policy.thresholds).judge(window)
        return alarms.worst_of(one.state for one in judged if one.role == "output")


def _service(window: profile_windows.Window) -> gates.Service:
    ops = window.ops
    return gates.Service(
        requests=ops.requests, failed=ops.failed, latency_p50_us=ops.latency_us(0.5)
    )


def _quality(window: profile_windows.Window, *, binary: bool) -> RealisedQuality:
    if window.quality is None:
        return RealisedQuality(n=0)
    return realised(window.quality, binary=binary)
