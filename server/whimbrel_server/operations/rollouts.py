"""Rollouts as operators command them: start, pause, resume, abort.

`whimbrel_server.jobs.rollouts` moves them from wave to wave by what devices report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core import identity
from whimbrel_core.errors import UsageError
from whimbrel_core.wire.assignment import SlotAssignment
from whimbrel_server.domain import rollout as domain
from whimbrel_server.store import rollouts as store

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_server.operations.rollout_moves import Moves
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.assignments import Assignments
    from whimbrel_server.store.database import Database
    from whimbrel_server.store.registry import Registry
    from whimbrel_server.views.rollouts import RolloutSpec


class Rollouts:
    """Starts and commands rollouts; safe to call from several threads.

    Args:
        database, registry, repository, assignments: what they stand on.
        moves: moves a rollout.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        repository: Repository,
        assignments: Assignments,
        moves: Moves,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._database, self._registry, self._repository = database, registry, repository
        self._assignments, self._moves, self._now_ms = assignments, moves, now_ms

    def start(self, spec: RolloutSpec, actor: str) -> store.Stored:
        """Choose the waves, store the rollout and assign its first wave.

        Raises:
            UsageError: an unknown version or device, a wave of nobody, an AUC that could never be
                known, or a rollout of the slot is under way (``conflict``).
            TrustError: the bundle's signature does not hold.
        """
        identity.slot_name(spec.slot)
        _check_gates(spec)
        published = self._repository.find(spec.model, spec.version)
        _check_auc(spec, self._repository.contents(published.digest).baseline)
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

        return self._moves.begin(
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
                plan=plan,
            )
        )

    def command(self, rollout_id: int, event: domain.Event, actor: str) -> store.Stored:
        """Pause, resume or abort.

        Raises:
            UsageError: no such rollout, or not in this state.
        """
        with self._moves.lock:
            with self._database.read() as connection:
                rollout = store.get(connection, rollout_id)
            reason = f"{event} by {actor}" if event == "abort" else rollout.plan.reason
            return self._moves.apply(rollout, event, actor=actor, reason=reason)


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


def _check_auc(spec: RolloutSpec, baseline: Baseline) -> None:
    """Refuse to wait for an AUC that no device and no server will ever know."""
    asked = {
        "gate min_auc": spec.gates.min_auc,
        "gate max_auc_drop": spec.gates.max_auc_drop,
        "probation min_auc": spec.probation.min_auc,
    }
    for name, value in asked.items():
        if value is not None and not baseline.layout.binary:
            raise UsageError(
                f"{name} asks for an AUC, and {spec.model} {spec.version} names no positive class: "
                "it could never be judged; nothing was assigned",
                hint="pack it with --positive CLASS, or ask for no AUC",
            )
