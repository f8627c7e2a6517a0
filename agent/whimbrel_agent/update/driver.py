"""Runs the machine of every slot: stores each new state, then does its effects.

One task per slot does effects in order; what an effect finds out is the machine's next event. A
new wish interrupts phases that may be interrupted (their processes are killed), never a swap.
Every effect can run again: after a restart `start` serves at once what the stored states say,
and then does the effects of the present phases again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_agent.control.waiting import within
from whimbrel_agent.update import machine
from whimbrel_agent.update.effects import Effects
from whimbrel_agent.update.fetcher import Fetcher
from whimbrel_agent.update.ledger import Ledger, Outcome
from whimbrel_agent.update.service import Service
from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from whimbrel_agent.channel import Judgement, LocalEvent, SlotSpec
    from whimbrel_agent.config import Config
    from whimbrel_agent.control.slots import Quarantined, SlotStore
    from whimbrel_agent.control.state import StateFile
    from whimbrel_agent.control.supervisor import Supervisor
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.machine import Effect, SlotState
    from whimbrel_agent.update.messages import Failure
    from whimbrel_core.wire.assignment import Assignment

_RETRY_MAX_S = 300.0


class Driver:
    """The update side of control.

    Args:
        config: the agent's configuration.
        home: data directory.
        state: ``agent.db``.
        slots: slot states in it.
        supervisor: runs workers.
        report: called with an event for the outbox.
        changed: called when the reported state may have changed.
        observe: called before and after each effect, for metrics and logs; what it raises stops
            the agent, and a test may kill the process in it.
    """

    def __init__(
        self,
        config: Config,
        home: DataDirectory,
        state: StateFile,
        slots: SlotStore,
        supervisor: Supervisor,
        *,
        report: Callable[[LocalEvent], None],
        changed: Callable[[], None],
        observe: Callable[[Effect, Literal["before", "after"]], None] | None = None,
    ) -> None:
        self._config = config
        self._changed = changed
        self._observe = observe or (lambda _effect, _when: None)
        self._ledger = Ledger(slots, report=report, changed=changed)
        self._fetcher = Fetcher(config, home, state, slots, self._ledger)
        self._service = Service(
            config,
            home,
            self._ledger,
            supervisor,
            changed=changed,
            interrupt=self._interrupt,
            take_up=self._take_up,
            check=self._check,
        )
        self._effects = Effects(
            config,
            home,
            slots,
            self._ledger,
            supervisor,
            fetcher=self._fetcher,
            service=self._service,
            interrupt=self._interrupt,
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._stopped = False
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ------------------------------------------------------------------ what others look at

    @property
    def states(self) -> Mapping[str, SlotState]:
        """The slots by name."""
        return self._ledger.states

    @property
    def quarantined(self) -> Mapping[str, Quarantined]:
        """Digests that are not tried again."""
        return self._ledger.quarantined

    @property
    def last_error(self) -> str:
        """What went wrong last."""
        return self._ledger.last_error

    # ------------------------------------------------------------------ what others ask

    async def start(self) -> None:
        """Serve what the stored states say, then take up every phase where it was."""
        self._ledger.load()
        await self._service.restore()
        for slot, state in tuple(self._ledger.states.items()):
            self._launch(slot, self._work(slot, machine.resume(state)))

    async def stop(self) -> None:
        """Stop every effect; the states are stored, and taken up at the next start."""
        self._stopped = True
        self._effects.stop()
        for task in self._tasks.values():
            task.cancel()
        tasks = [*self._tasks.values(), *self._service.stop()]
        await asyncio.gather(*tasks, return_exceptions=True)

    def assign(self, assignment: Assignment) -> None:
        """Take a verified assignment: the whole truth about every slot.

        Raises:
            StorageError: it could not be stored, and is not acted upon.
        """
        for slot in self._ledger.assign(assignment):
            self._reconsider(slot)
        self._changed()

    def sync(self, *, asked: bool) -> None:
        """Try at once what waits for another try, and what was refused and may hold now.

        Args:
            asked: by a person: then what was found unusable is tried, too.
        """
        self._wake.set()
        self._wake = asyncio.Event()
        for slot, state in tuple(self._ledger.states.items()):
            wanted = state.wanted
            if state.phase != "failed" or wanted is None:
                continue
            if asked or state.left_out != wanted.digest:
                self._ledger.amend(msgspec.structs.replace(state, given_up=-1))
                self._reconsider(slot)

    def forgive(self, digest: str) -> bool:
        """Let a quarantined digest be tried again; return whether it was in quarantine."""
        found = self._ledger.forgive(digest)
        if found:
            self.sync(asked=True)
            self._changed()
        return found

    def judge(self, judgement: Judgement) -> None:
        """Take the worker's judgement of a version on probation."""
        state = self._ledger.states.get(judgement.slot)
        if state is None or not machine.on_probation(state) or judgement.verdict == "pending":
            return
        if state.current is None or state.current.digest != judgement.digest:
            return
        if judgement.verdict == "passed":
            self._interrupt(judgement.slot, Outcome("passed"))
        else:
            self._interrupt(judgement.slot, Outcome("failed", "probation.failed", judgement.reason))

    def worker_down(self, ending: str, at_work: tuple[SlotSpec, ...]) -> None:
        """Start the worker again, without a model that keeps crashing it.

        Args:
            ending: how it ended.
            at_work: the slots whose models were running when it did.
        """
        self._service.worker_down(ending, at_work)

    async def bring_trust(self) -> Failure | None:
        """Fetch the newest trust files without any bundle; return why not, if so."""
        return await self._fetcher.bring_trust()

    # ------------------------------------------------------------------ the machine's steps

    def _reconsider(self, slot: str) -> None:
        wish = self._ledger.wish(slot)
        state = self._ledger.states[slot]
        if wish is not None:
            self._interrupt(slot, wish)
        elif state.phase == "empty" and state.wanted is None:
            self._ledger.drop(slot)

    def _interrupt(self, slot: str, outcome: Outcome) -> None:
        state = self._ledger.states.get(slot)
        if state is None or (state.phase, outcome.event) not in machine.TABLE or self._stopped:
            return
        previous = self._tasks.get(slot)

        async def go() -> None:
            await _end(previous)
            if slot in self._ledger.states:
                await self._work(slot, await self._advanced(slot, outcome))

        self._launch(slot, go())

    def _take_up(self, slot: str, effects: tuple[Effect, ...]) -> None:
        previous = self._tasks.get(slot)
        if previous is asyncio.current_task():
            # Inside the slot's own way back: it sees the new state when it tries again.
            return

        async def go() -> None:
            await _end(previous)
            await self._work(slot, effects)

        self._launch(slot, go())

    def _launch(self, slot: str, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks[slot] = task
        task.add_done_callback(self._check)

    def _check(self, task: asyncio.Task[None]) -> None:
        """A fault in our own code must not leave a slot silently stuck."""
        if not task.cancelled() and task.exception() is not None and not self.failure.done():
            self.failure.set_exception(task.exception() or RuntimeError())

    async def _work(self, slot: str, effects: Iterable[Effect]) -> None:
        pending = deque(effects)
        tries = 0
        while slot in self._ledger.states:
            if not pending:
                wish = self._ledger.wish(slot)
                if wish is None:
                    return
                pending.extend(await self._advanced(slot, wish))
                tries = 0
                if not pending:
                    return
                continue
            effect = pending.popleft()
            self._observe(effect, "before")
            outcome = await self._effects.perform(effect, slot)
            self._observe(effect, "after")
            if outcome is None:
                continue
            if slot not in self._ledger.states:
                return
            pending = deque(await self._advanced(slot, outcome))
            if outcome.event == "retry":
                await self._pause(tries)
                tries += 1
            else:
                tries = 0

    async def _advanced(self, slot: str, outcome: Outcome) -> tuple[Effect, ...]:
        """As `Ledger.advance`; where the disk refuses the state, nothing is done until it takes it."""
        tries = 0
        while True:
            try:
                return self._ledger.advance(slot, outcome)
            except StorageError as error:
                self._ledger.last_error = f"{slot}: {error.message}; waiting for the disk"
                self._changed()
            await self._pause(tries)
            tries += 1
            if slot not in self._ledger.states:
                return ()

    async def _pause(self, tries: int) -> None:
        bound = min(_RETRY_MAX_S, self._config.repository.sync_s, 2.0**tries)
        with contextlib.suppress(asyncio.TimeoutError):
            await within(self._wake.wait(), random.uniform(bound / 2, bound))  # noqa: S311


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
