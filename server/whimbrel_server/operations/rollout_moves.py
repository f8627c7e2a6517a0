"""Moving a rollout: one step of its table, written together with the assignments that follow.

Publishing comes after the commit and can be lost: devices get their document again at every birth.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import UsageError
from whimbrel_core.profile import window as profile_windows
from whimbrel_server.domain import rollout as domain
from whimbrel_server.domain.subjects import device_subject
from whimbrel_server.store import aggregates, alerts, audit
from whimbrel_server.store import rollouts as store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import sqlalchemy as sa

    from whimbrel_server.repository import Repository
    from whimbrel_server.store.assignments import Assignments, Desired
    from whimbrel_server.store.database import Database


class Before(msgspec.Struct, frozen=True):
    """Counts that a version had on a device before a rollout gave it the version (again)."""

    windows: int
    payload: bytes


class Moves:
    """Writes and publishes what a rollout does. Who reads one to move it holds ``lock`` meanwhile.

    Args:
        database, repository, assignments: what they stand on.
        publish: sends devices' new documents.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        repository: Repository,
        assignments: Assignments,
        *,
        publish: Callable[[Iterable[Desired]], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._repository, self._assignments = database, repository, assignments
        self._publish, self._now_ms = publish, now_ms
        self.lock = threading.Lock()

    def begin(self, rollout: store.Stored) -> store.Stored:
        """Assign the first wave of a new rollout; return it as it was stored, with its id.

        Raises:
            UsageError: another rollout of the slot is under way (``conflict``).
        """
        now_ms = rollout.created_ms

        def change(connection: sa.Connection) -> tuple[store.Stored, list[Desired]]:
            for other in store.going(connection):
                if other.slot == rollout.slot:
                    raise UsageError(
                        f"rollout {other.id} of {other.model} {other.version} on slot "
                        f"{rollout.slot} is {other.view().state.replace('_', ' ')}",
                        hint="wait for its end, or abort it",
                        code="conflict",
                    )
            plan, documents = self._assign_wave(connection, rollout.plan, rollout.slot, now_ms)
            stored = store.insert(connection, msgspec.structs.replace(rollout, plan=plan))
            waves = [wave.devices for wave in plan.waves]
            detail = {"model": rollout.model, "version": rollout.version, "waves": waves}
            subject = f"rollout {stored.id}"
            audit.note(connection, now_ms, rollout.actor, "rollout.start", subject, detail)
            return stored, documents

        with self.lock:
            stored, documents = self._database.write(change)
        self._publish(documents)
        return stored

    def apply(  # noqa: C901 - one branch per effect of the table
        self,
        rollout: store.Stored,
        event: domain.Event,
        *,
        actor: str = audit.SERVER,
        reason: str = "",
    ) -> store.Stored:
        """Do what ``event`` means to a rollout, which may be nothing; return it as it is then.

        Raises:
            UsageError: an operator asked for what cannot be done in this state (``conflict``).
        """
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
                connection, plan.target.digest, device_subject(device), "all"
            )
            if known:
                payload = profile_windows.encode(known[0].window)
                before[device] = msgspec.msgpack.encode(Before(known[0].windows, payload))
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
