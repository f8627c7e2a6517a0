"""What each effect of the machine does: fetch, probe, stage, switch, watch, commit, and back.

Every effect can be done again, whole or where it broke off, and says what it found out as the
machine's next event. What the disk refuses is tried again, or, where the slot can do without,
noted.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.system import resources
from whimbrel_agent.update import child, download, machine, trust
from whimbrel_agent.update.garbage import collect
from whimbrel_agent.update.ledger import Outcome
from whimbrel_agent.update.messages import ProbeRequest, Wanted
from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.config import Config
    from whimbrel_agent.control.slots import SlotStore
    from whimbrel_agent.control.supervisor import Supervisor
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.fetcher import Fetcher
    from whimbrel_agent.update.ledger import Ledger
    from whimbrel_agent.update.machine import Effect
    from whimbrel_agent.update.service import Service


class Effects:
    """Does effects.

    Args:
        config: the agent's configuration.
        home: data directory.
        slots: the floors of releases.
        ledger: the slots' states.
        supervisor: told when a probation ends.
        fetcher: brings bundles.
        service: has a worker serve them.
        interrupt: takes an event to a slot, in place of what is done there.
    """

    def __init__(
        self,
        config: Config,
        home: DataDirectory,
        slots: SlotStore,
        ledger: Ledger,
        supervisor: Supervisor,
        *,
        fetcher: Fetcher,
        service: Service,
        interrupt: Callable[[str, Outcome], None],
    ) -> None:
        self._config = config
        self._home = home
        self._store = slots
        self._ledger = ledger
        self._supervisor = supervisor
        self._fetcher = fetcher
        self._service = service
        self._interrupt = interrupt
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._probing = asyncio.Lock()

    def stop(self) -> None:
        """Let no deadline of a probation pass any more."""
        for timer in self._timers.values():
            timer.cancel()

    async def perform(self, effect: Effect, slot: str) -> Outcome | None:
        """Do one effect in a slot; return what it found out, if anything."""
        try:
            if effect == "fetch":
                return await self._fetch(slot)
            if effect == "probe":
                return await self._probe(slot)
            if effect == "stage":
                self._stage(slot)
            elif effect == "switch":
                return await self._switch(slot)
            elif effect == "watch":
                self._watch(slot)
            elif effect == "commit":
                self._commit(slot)
            elif effect == "roll_back":
                return await self._roll_back(slot)
            else:
                # Quarantine was stored with the state; both it and `collect` tidy the disk.
                keep = self._config.limits.store_keep
                collect(self._home, self._ledger.states.values(), keep=keep)
        except StorageError as error:
            if effect in {"commit", "collect", "quarantine", "watch"}:
                self._ledger.last_error = error.message
                return None
            return Outcome("retry", error.code, error.message)
        return None

    async def _fetch(self, slot: str) -> Outcome:
        candidate = self._ledger.states[slot].candidate
        if candidate is None:
            return Outcome("fetch_refused", "update.nothing", "nothing is wanted")
        wanted = candidate.assignment
        answer = await self._fetcher.run(Wanted(wanted.path, wanted.digest, wanted.length))
        if answer.failure is not None:
            failed = answer.failure
            again = failed.retryable or failed.code in {"updater.crash", "updater.timeout"}
            return Outcome("retry" if again else "fetch_refused", failed.code, failed.message)
        return Outcome("fetched")

    async def _probe(self, slot: str) -> Outcome:
        state = self._ledger.states[slot]
        candidate = state.candidate
        if candidate is None:
            return Outcome("probe_refused", "update.nothing", "nothing is wanted")
        path = self._home.candidate(candidate.digest)
        if not path.exists():
            return Outcome("retry", "storage.gone", f"{path.name} is not there any more")
        limits = self._config.limits
        keys = trust.publishers(self._home.publishers_json)
        async with self._probing:
            answer = await child.run(
                "whimbrel_agent.update.probe",
                ProbeRequest(
                    path=str(path),
                    digest=candidate.digest,
                    keys=keys,
                    device_classes=self._config.device_classes,
                    memory_bytes=limits.probe_memory_bytes,
                    cpu_s=max(1, int(limits.probe_timeout_s)),
                    memory_available_bytes=resources.memory_available_bytes(),
                ),
                timeout_s=limits.probe_timeout_s,
                what="probe",
            )
        failed = answer.failure
        if failed is not None:
            if failed.retryable or failed.code == "compatibility.memory":
                return Outcome("retry", failed.code, failed.message)
            return Outcome("probe_refused", failed.code, failed.message)
        proven = answer.proven
        if proven is None:
            return Outcome("probe_refused", "probe.crash", "the probe gave no answer")
        self._ledger.amend(
            msgspec.structs.replace(
                self._ledger.states[slot],
                candidate=msgspec.structs.replace(
                    candidate,
                    name=proven.name,
                    version=proven.version,
                    release=proven.release,
                    memory_bytes=proven.memory_bytes,
                    latency_us=proven.latency_us,
                    parity_passed=True,
                    keys=trust.keys_for(keys, proven.name),
                ),
            )
        )
        return Outcome("probed")

    def _stage(self, slot: str) -> None:
        candidate = self._ledger.states[slot].candidate
        if candidate is None:
            return
        final = self._home.bundle(candidate.digest)
        if not final.exists():
            download.settle(self._home.fetched(candidate.digest), final)

    async def _switch(self, slot: str) -> Outcome:
        candidate = self._ledger.states[slot].candidate
        if candidate is None:
            return Outcome("switch_failed", "update.nothing", "nothing is wanted")
        error = await self._service.swap(slot)
        if error is not None:
            # What another slot's version does to the worker is not this candidate's fault.
            another = error.slot and error.slot != slot
            return Outcome("retry" if another else "switch_failed", error.code, error.message)
        asked = not machine.asks_nothing(candidate.assignment)
        return Outcome("switched" if asked else "switched_committed")

    def _watch(self, slot: str) -> None:
        state = self._ledger.states[slot]
        if state.current is None:
            return
        deadline_s = state.current.assignment.probation.deadline_s
        spent_s = time.time() - state.watching_since_ms / 1000
        # A clock that was set meanwhile must neither end a probation nor make it endless.
        left_s = min(deadline_s, max(0.0, deadline_s - max(0.0, spent_s)))
        if not 0.0 <= spent_s <= 2 * deadline_s:
            left_s = deadline_s
        digest = state.current.digest

        def expire() -> None:
            now = self._ledger.states.get(slot)
            if now is not None and now.current is not None and now.current.digest == digest:
                reason = f"no verdict within {deadline_s:g} s: too few rows or labels"
                self._interrupt(slot, Outcome("expired", "probation.deadline", reason))

        self._cancel_timer(slot)
        self._timers[slot] = asyncio.get_running_loop().call_later(left_s, expire)

    def _commit(self, slot: str) -> None:
        state = self._ledger.states[slot]
        self._cancel_timer(slot)
        if state.previous is not None and state.previous.name:
            self._store.raise_floor(state.previous.name, state.previous.release)
        self._supervisor.end_probation(slot)

    async def _roll_back(self, slot: str) -> Outcome:
        self._cancel_timer(slot)
        error = await self._service.swap()
        if error is not None:
            return Outcome("retry", error.code, error.message)
        return Outcome("emptied" if self._ledger.states[slot].wanted is None else "rolled_back")

    def _cancel_timer(self, slot: str) -> None:
        timer = self._timers.pop(slot, None)
        if timer is not None:
            timer.cancel()
