"""Rollouts in motion: each that has not ended is looked at, judged by its gates, and moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_server.domain import gates
from whimbrel_server.domain import rollout as domain
from whimbrel_server.domain.devices import slot_of
from whimbrel_server.jobs.rollout_facts import Facts
from whimbrel_server.store import rollouts as store

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_core.wire.assignment import SlotAssignment
    from whimbrel_server.operations.rollout_moves import Moves
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry


class RolloutJudge:
    """Moves rollouts by what their devices report.

    Args:
        database, registry, repository: where the facts are.
        moves: moves a rollout.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        repository: Repository,
        moves: Moves,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._registry, self._moves = database, registry, moves
        self._facts = Facts(registry, repository)
        self._now_ms = now_ms

    def tick(self) -> None:
        """Look at every rollout that is under way, and move those that can."""
        with self._moves.lock:
            with self._database.read() as connection:
                going = store.going(connection)
            for rollout in going:
                self._look(rollout)

    def _look(self, rollout: store.Stored) -> None:
        now_ms = self._now_ms()
        if rollout.state in {"rolling_back", "aborting"}:
            self._look_back(rollout, now_ms)
            return
        plan = rollout.plan
        with self._database.read() as connection:
            facts = self._facts.of_wave(connection, rollout, now_ms)
        seen = gates.evaluate(plan.spec.gates, facts)
        said = gates.verdict(seen)
        wave = plan.current
        state = "judging" if wave.state == "assigning" and _arrived(facts) else wave.state
        changed = plan.with_wave(gates=seen, state=state)
        rollout = msgspec.structs.replace(rollout, plan=changed)
        if said == "failed":
            self._moves.apply(rollout, "gate_failed", reason=gates.reason(seen))
        elif said == "passed" and rollout.state == "running":
            last = plan.wave + 1 == len(plan.waves)
            self._moves.apply(rollout, "last_wave_passed" if last else "wave_passed")
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
            self._moves.apply(rollout, "restored")
        elif now_ms - (plan.restore_started_ms or now_ms) > plan.spec.deadline_s * 1000:
            names = ", ".join(waiting)
            self._moves.apply(
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


def _arrived(facts: gates.WaveFacts) -> bool:
    return any(one.digest == facts.digest for one in facts.devices)
