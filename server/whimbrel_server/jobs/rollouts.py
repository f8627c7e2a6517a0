"""Rollouts in motion: facts from reports and aggregates, the table, and its effects.

`Rollouts.tick` looks at every rollout that has not ended; one transaction per rollout writes its
new state together with the assignments that follow from it. Publishing comes after the commit and
can be lost: devices get their document again at every birth.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core import identity
from whimbrel_core.errors import UsageError
from whimbrel_core.profile import window as profile_windows
from whimbrel_core.profile.distances import Judge
from whimbrel_core.profile.quality import RealisedQuality, realised
from whimbrel_core.wire.assignment import SlotAssignment
from whimbrel_server.domain import aggregation, drift, gates
from whimbrel_server.domain import rollout as domain
from whimbrel_server.domain.aggregation import Totals
from whimbrel_server.domain.devices import slot_of
from whimbrel_server.store import aggregates, alerts, audit
from whimbrel_server.store import rollouts as store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import sqlalchemy as sa

    from whimbrel_server.repository import Repository
    from whimbrel_server.store.assignments import Assignments, Desired
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.views import DriftState, RolloutSpec

# The incumbent is judged by its newest days with labels, not by its whole life: what the season
# was when it was young is no comparison.
_INCUMBENT_DAYS = 60
# It hardly changes while the wave is judged, and merging it is the dearest part of a look.
_INCUMBENT_S = 5.0


class Rollouts:
    """Starts and moves rollouts; safe to call from several threads.

    Args:
        database, registry, repository, assignments: what they stand on.
        publish: sends a device's new document.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        repository: Repository,
        assignments: Assignments,
        *,
        publish: Callable[[Iterable[Desired]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._registry = database, registry
        self._repository, self._assignments = repository, assignments
        self._publish, self._now_ms = publish, now_ms
        self._lock = threading.Lock()
        self._incumbents: dict[
            tuple[int, int], tuple[float, tuple[gates.Service, RealisedQuality]]
        ] = {}

    def start(self, spec: RolloutSpec, actor: str) -> store.Stored:
        """Choose the waves, store the rollout and assign its first wave.

        Raises:
            UsageError: an unknown version or device, a wave of nobody, or a rollout of the slot
                is under way (``conflict``).
            TrustError: the bundle's signature does not hold.
        """
        identity.slot_name(spec.slot)
        _check_gates(spec)
        published = self._repository.find(spec.model, spec.version)
        self._assignments.require_key()
        fleet = {one.device: one.effective_labels for one in self._registry.all()}
        if not fleet:
            raise UsageError(
                "no device is enrolled",
                hint="enrol one with 'whimbrel fleet enrol'",
                code="conflict",
            )
        waves = domain.choose_waves(spec, fleet)
        target = SlotAssignment(
            path=published.path,
            digest=published.digest,
            length=published.length,
            probation=spec.probation,
        )
        now_ms = self._now_ms()
        plan = domain.Plan(
            spec=spec, target=target, waves=tuple(domain.WavePlan(devices=one) for one in waves)
        )

        def change(connection: sa.Connection) -> tuple[store.Stored, list[Desired]]:
            for other in store.going(connection):
                if other.slot == spec.slot:
                    raise UsageError(
                        f"rollout {other.id} of {other.model} {other.version} on slot {spec.slot} "
                        f"is {other.view().state.replace('_', ' ')}",
                        hint="wait for its end, or abort it",
                        code="conflict",
                    )
            begun, published_now = self._assign_wave(connection, plan, spec.slot, now_ms)
            stored = store.insert(
                connection,
                store.Stored(
                    id=0,
                    slot=spec.slot,
                    model=spec.model,
                    version=spec.version,
                    digest=published.digest,
                    state="running",
                    created_ms=now_ms,
                    updated_ms=now_ms,
                    actor=actor,
                    plan=begun,
                ),
            )
            detail = {"model": spec.model, "version": spec.version, "waves": waves}
            audit.note(connection, now_ms, actor, "rollout.start", f"rollout {stored.id}", detail)
            return stored, published_now

        with self._lock:
            stored, documents = self._database.write(change)
        self._publish(documents)
        return stored

    def command(self, rollout_id: int, event: domain.Event, actor: str) -> store.Stored:
        """Pause, resume or abort.

        Raises:
            UsageError: no such rollout, or not in this state.
        """
        with self._lock:
            with self._database.read() as connection:
                rollout = store.get(connection, rollout_id)
            reason = f"{event} by {actor}" if event == "abort" else rollout.plan.reason
            return self._apply(rollout, event, actor=actor, reason=reason)

    def tick(self) -> None:
        """Look at every rollout that is under way, and move those that can."""
        with self._lock:
            with self._database.read() as connection:
                going = store.going(connection)
            for rollout in going:
                self._look(rollout)

    # ------------------------------------------------------------------------------- looking

    def _look(self, rollout: store.Stored) -> None:
        now_ms = self._now_ms()
        if rollout.state in {"rolling_back", "aborting"}:
            self._look_back(rollout, now_ms)
            return
        plan = rollout.plan
        with self._database.read() as connection:
            facts = self._facts(connection, rollout, now_ms)
        seen = gates.evaluate(plan.spec.gates, facts)
        said = gates.verdict(seen)
        wave = plan.current
        state = "judging" if wave.state == "assigning" and _arrived(facts) else wave.state
        changed = plan.with_wave(gates=seen, state=state)
        rollout = msgspec.structs.replace(rollout, plan=changed)
        if said == "failed":
            self._apply(rollout, "gate_failed", reason=gates.reason(seen))
        elif said == "passed" and rollout.state == "running":
            last = plan.wave + 1 == len(plan.waves)
            self._apply(rollout, "last_wave_passed" if last else "wave_passed")
        elif changed != plan:
            saved = msgspec.structs.replace(rollout, updated_ms=now_ms)
            self._database.write(lambda connection: store.save(connection, saved))

    def _look_back(self, rollout: store.Stored, now_ms: int) -> None:
        plan = rollout.plan
        waiting = [
            device
            for device in domain.moved(plan.waves)
            if not self._is_back(rollout, device, plan.previous.get(device))
        ]
        if not waiting:
            self._apply(rollout, "restored")
        elif now_ms - (plan.restore_started_ms or now_ms) > plan.spec.deadline_s * 1000:
            names = ", ".join(waiting)
            self._apply(
                rollout,
                "overdue",
                reason=f"{plan.reason}; {names} did not report the earlier version in time",
            )

    def _is_back(self, rollout: store.Stored, device: str, previous: SlotAssignment | None) -> bool:
        record = self._registry.get(device)
        report = slot_of(record.state if record else None, rollout.slot)
        if report is None:
            return previous is None
        if previous is None:
            return report.digest != rollout.digest
        return report.digest == previous.digest and report.phase in {"serving", "failed"}

    def _facts(
        self, connection: sa.Connection, rollout: store.Stored, now_ms: int
    ) -> gates.WaveFacts:
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

    def _since_start(self, connection: sa.Connection, rollout: store.Stored, device: str) -> Totals:
        """Return what the new version counted on a device since its wave started."""
        layout = self._repository.contents(rollout.digest).baseline.layout
        subject = aggregation.device_subject(device)
        found = aggregates.periods(connection, rollout.digest, subject, "all")
        totals = aggregates.total(layout, found)
        before = rollout.plan.before.get(device)
        if before is not None:
            period = msgspec.msgpack.decode(before, type=_Before)
            earlier = Totals.of(layout, profile_windows.decode(period.payload), period.windows)
            totals = totals.without(earlier)
        return totals

    def _device_facts(self, rollout: store.Stored, device: str, since: Totals) -> gates.DeviceFacts:
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
        self, connection: sa.Connection, rollout: store.Stored
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
        self, connection: sa.Connection, rollout: store.Stored
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
                aggregation.device_subject(device),
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
        policy = drift.policy_for(contents.manifest.drift, streams=1)
        if window.rows < policy.thresholds.min_rows:
            return "too_few"
        judged = Judge(contents.baseline, thresholds=policy.thresholds).judge(window)
        return drift.worst_of(one.state for one in judged if one.role == "output")

    # ------------------------------------------------------------------------------- moving

    def _apply(  # noqa: C901 - one branch per effect of the table
        self,
        rollout: store.Stored,
        event: domain.Event,
        *,
        actor: str = audit.SERVER,
        reason: str = "",
    ) -> store.Stored:
        found = domain.step(rollout.state, event)
        if found is None:
            return rollout
        state, effects = found
        now_ms = self._now_ms()

        def change(connection: sa.Connection) -> tuple[store.Stored, list[Desired]]:
            plan = rollout.plan
            if reason:
                plan = msgspec.structs.replace(plan, reason=reason)
            documents: list[Desired] = []
            for effect in effects:
                if effect == "finish_wave":
                    plan = plan.with_wave(state="passed", finished_ms=now_ms)
                elif effect == "fail_wave":
                    plan = plan.with_wave(state="failed", finished_ms=now_ms)
                elif effect == "assign_next_wave":
                    plan = msgspec.structs.replace(plan, wave=plan.wave + 1)
                    plan, more = self._assign_wave(connection, plan, rollout.slot, now_ms)
                    documents.extend(more)
                elif effect == "restore":
                    plan, more = self._restore(connection, plan, rollout, now_ms)
                    documents.extend(more)
                elif effect == "announce":
                    _announce(connection, rollout, state, plan.reason, now_ms)
            if state in {"rolled_back", "aborted"} and plan.current.state != "failed":
                plan = plan.with_wave(state="rolled_back", finished_ms=now_ms)
            moved = msgspec.structs.replace(rollout, state=state, updated_ms=now_ms, plan=plan)
            store.save(connection, moved)
            detail = {"event": event, "state": state, "wave": plan.wave, "reason": plan.reason}
            audit.note(
                connection, now_ms, actor, f"rollout.{event}", f"rollout {rollout.id}", detail
            )
            return moved, documents

        moved, documents = self._database.write(change)
        self._publish(documents)
        return moved

    def _assign_wave(
        self, connection: sa.Connection, plan: domain.Plan, slot: str, now_ms: int
    ) -> tuple[domain.Plan, list[Desired]]:
        previous, versions = dict(plan.previous), dict(plan.from_versions)
        before, revisions = dict(plan.before), dict(plan.revisions)
        documents = []
        for device in plan.current.devices:
            had = self._assignments.slots(connection, device).get(slot)
            previous[device] = had
            published = self._repository.get(had.digest) if had else None
            versions[device] = published.version if published else ""
            known = aggregates.periods(
                connection, plan.target.digest, aggregation.device_subject(device), "all"
            )
            if known:
                payload = profile_windows.encode(known[0].window)
                before[device] = msgspec.msgpack.encode(_Before(known[0].windows, payload))
            document = self._assignments.change(connection, device, slot, plan.target, now_ms)
            revisions[device] = document.revision
            documents.append(document)
        plan = plan.with_wave(state="assigning", started_ms=now_ms)
        plan = msgspec.structs.replace(
            plan, previous=previous, from_versions=versions, before=before, revisions=revisions
        )
        return plan, documents

    def _restore(
        self, connection: sa.Connection, plan: domain.Plan, rollout: store.Stored, now_ms: int
    ) -> tuple[domain.Plan, list[Desired]]:
        documents = [
            self._assignments.change(
                connection, device, rollout.slot, plan.previous.get(device), now_ms
            )
            for device in domain.moved(plan.waves)
        ]
        return msgspec.structs.replace(plan, restore_started_ms=now_ms), documents


class _Before(msgspec.Struct, frozen=True):
    """Counts that a version had on a device before a rollout gave it the version (again)."""

    windows: int
    payload: bytes


def _arrived(facts: gates.WaveFacts) -> bool:
    return any(one.digest == facts.digest for one in facts.devices)


def _service(window: profile_windows.Window) -> gates.Service:
    ops = window.ops
    return gates.Service(
        requests=ops.requests, failed=ops.failed, latency_p50_us=ops.latency_us(0.5)
    )


def _quality(window: profile_windows.Window, *, binary: bool) -> RealisedQuality:
    if window.quality is None:
        return RealisedQuality(n=0)
    return realised(window.quality, binary=binary)


def _announce(
    connection: sa.Connection,
    rollout: store.Stored,
    state: domain.State,
    reason: str,
    now_ms: int,
) -> None:
    if state == "completed":
        return
    what = f"rollout {rollout.id} of {rollout.model} {rollout.version}"
    message = {
        "rolling_back": f"{what} failed a gate and is going back: {reason}",
        "rolled_back": f"{what} failed a gate; every device has its earlier version: {reason}",
        "aborted": f"{what} was aborted; every device has its earlier version",
        "failed": f"{what} could not be taken back everywhere: {reason}",
    }.get(state, f"{what} is {state}")
    alerts.raise_alert(
        connection,
        alerts.NewAlert(
            cause=f"rollout/{rollout.id}",
            at_ms=now_ms,
            kind="rollout",
            severity="notice" if state == "aborted" else "severe",
            message=message,
            model=rollout.model,
            version=rollout.version,
            evidence={"rollout": rollout.id, "state": state, "reason": reason},
        ),
        now_ms,
    )


def _check_gates(spec: RolloutSpec) -> None:
    asked = spec.gates
    shares = {
        "max_error_rate": asked.max_error_rate,
        "min_auc": asked.min_auc,
        "max_auc_drop": asked.max_auc_drop,
    }
    for name, value in shares.items():
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"gate {name} is {value}; it is a share between 0 and 1")
    for name, count in (
        ("min_rows", asked.min_rows),
        ("min_windows", asked.min_windows),
        ("labels", asked.labels),
        ("soak_windows", asked.soak_windows),
    ):
        if count < 0:
            raise UsageError(f"gate {name} is {count}; it cannot be negative")
    if asked.max_latency_ratio is not None and asked.max_latency_ratio <= 0:
        raise UsageError(f"gate max_latency_ratio is {asked.max_latency_ratio}")
    if spec.deadline_s <= 0:
        raise UsageError(f"deadline_s is {spec.deadline_s}; it must be above zero")
