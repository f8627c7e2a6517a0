"""Keeps a worker serving what the states say, without the models that keep it from doing so.

A swap of workers is one at a time. A worker that ends unasked is started again; a version that
does not load, or keeps crashing the worker, is taken out of its slot so that the others go on.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from whimbrel_agent.channel import SlotSpec
from whimbrel_agent.control.worker import CRASH, TIMEOUT, WorkerFailedError
from whimbrel_agent.system import resources
from whimbrel_agent.update import machine
from whimbrel_agent.update.blame import Blame, from_outside
from whimbrel_agent.update.ledger import Outcome
from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_agent.config import Config
    from whimbrel_agent.control.supervisor import Supervisor
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.ledger import Ledger
    from whimbrel_agent.update.machine import Effect, SlotState

_RESTART_MAX_S = 30.0
# Two workers at once need the new model twice over while it loads, and some air.
_OVERLAP_FACTOR = 1.5
_OVERLAP_AIR_BYTES = 48 << 20
_DAMAGED = ("trust.", "bundle.", "storage", "profile.")


class Service:
    """What the worker serves.

    Args:
        config: the agent's configuration.
        home: data directory.
        ledger: the slots' states.
        supervisor: runs workers.
        changed: called when the reported state may have changed.
        interrupt: takes an event to a slot, in place of what is done there.
        take_up: does effects of a slot, in place of what is done there.
        check: looks at a task that has ended.
    """

    def __init__(
        self,
        config: Config,
        home: DataDirectory,
        ledger: Ledger,
        supervisor: Supervisor,
        *,
        changed: Callable[[], None],
        interrupt: Callable[[str, Outcome], None],
        take_up: Callable[[str, tuple[Effect, ...]], None],
        check: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._config = config
        self._home = home
        self._ledger = ledger
        self._supervisor = supervisor
        self._changed = changed
        self._interrupt = interrupt
        self._take_up = take_up
        self._check = check
        self._swapping = asyncio.Lock()
        self._blame = Blame()
        self._restarting: asyncio.Task[None] | None = None
        self._stopped = False

    def stop(self) -> tuple[asyncio.Task[None], ...]:
        """Start no worker again; return the tasks that were told to end."""
        self._stopped = True
        if self._restarting is None:
            return ()
        self._restarting.cancel()
        return (self._restarting,)

    async def swap(self, switching: str = "") -> WorkerFailedError | None:
        """Serve what the states say, and the candidate in the slot ``switching``.

        Returns:
            What kept it from being served. Where that is a slot's current version, it has been
            taken out, and another try may do better.
        """
        async with self._swapping:
            try:
                await self._apply(switching)
            except WorkerFailedError as error:
                if error.slot != switching:
                    # Another slot's version no longer loads; a candidate is not to blame.
                    self._take_out(error)
                return error
        return None

    async def restore(self, delay_s: float = 0.0) -> None:
        """Serve what the states say; take out what cannot be served; try until it works."""
        while not self._stopped:
            await asyncio.sleep(delay_s)
            async with self._swapping:
                try:
                    await self._apply()
                except WorkerFailedError as error:
                    self._ledger.last_error = error.message
                    self._changed()
                    if self._take_out(error):
                        delay_s = 0.0
                        continue
                    if error.slot:
                        delay_s = self._blame.pause_s(time.monotonic())
                        continue
                else:
                    return
            delay_s = min(_RESTART_MAX_S, max(0.5, 2 * delay_s))

    def worker_down(self, ending: str, at_work: tuple[SlotSpec, ...]) -> None:
        """Start the worker again, without a model that keeps crashing it.

        Args:
            ending: how it ended.
            at_work: the slots whose models were running when it did.
        """
        if self._stopped:
            return
        now = time.monotonic()
        running = () if from_outside(ending) else at_work
        names = ", ".join(spec.slot for spec in running)
        self._ledger.last_error = f"the worker ended unasked ({ending})" + (
            f" while {names} was answering" if names else ""
        )
        self._ledger.note("worker.down", detail={"ending": ending, "running": names})
        suspects = {spec.digest for spec in running} or {
            state.current.digest
            for state in self._ledger.states.values()
            if machine.on_probation(state) and state.current is not None
        }
        guilty = self._blame.crashed(suspects, now)
        for slot, state in tuple(self._ledger.states.items()):
            if state.current is not None and state.current.digest in guilty:
                self._interrupt(slot, _guilt(state, f"the worker crashed with it ({ending})"))
        if not guilty and (self._restarting is None or self._restarting.done()):
            self._restarting = asyncio.create_task(self.restore(self._blame.pause_s(now)))
            self._restarting.add_done_callback(self._check)

    async def _apply(self, switching: str = "") -> None:
        """Have a worker serve what the states say, and the candidate in the slot ``switching``."""
        specs = []
        total = 0
        for slot, state in sorted(self._ledger.states.items()):
            version = state.candidate if slot == switching else machine.serving(state)
            if version is None:
                continue
            total += version.memory_bytes
            judged = slot == switching or not state.committed
            asks = not machine.asks_nothing(version.assignment)
            specs.append(
                SlotSpec(
                    slot=slot,
                    digest=version.digest,
                    path=str(self._home.bundle(version.digest)),
                    keys=version.keys,
                    mode=version.assignment.mode,
                    probation=version.assignment.probation if judged and asks else None,
                    device=self._config.device_id,
                )
            )
        available = resources.memory_available_bytes()
        overlap = not available or available > total * _OVERLAP_FACTOR + _OVERLAP_AIR_BYTES
        await self._supervisor.apply(tuple(specs), overlap=overlap)

    def _take_out(self, error: WorkerFailedError) -> bool:
        """Go back from a version that does not load; return whether another try may do better now.

        A damaged file is fetched again. A model that the runtime refuses is out at once, one that
        crashes or hangs while it loads after it did so a few times.
        """
        state = self._ledger.states.get(error.slot)
        if state is None or state.current is None or state.current.digest != error.digest:
            return False
        if error.code in {CRASH, TIMEOUT}:
            if error.digest not in self._blame.crashed({error.digest}, time.monotonic()):
                return False
            outcome = _guilt(state, error.message, error.code)
        elif error.code.startswith(_DAMAGED):
            outcome = Outcome("damaged", error.code, error.message)
        else:
            outcome = Outcome("unusable", error.code, f"it was left out: {error.message}")
        try:
            effects = self._ledger.advance(error.slot, outcome)
        except StorageError as refused:
            self._ledger.last_error = f"{error.slot}: {refused.message}"
            return False
        if outcome.event == "damaged":
            self._home.bundle(error.digest).unlink(missing_ok=True)
        self._take_up(error.slot, effects)
        return True


def _guilt(state: SlotState, reason: str, code: str = CRASH) -> Outcome:
    """Return what becomes of a slot whose version cannot be served, from the machine's view."""
    if machine.on_probation(state) and (state.phase, "failed") in machine.TABLE:
        return Outcome("failed", code, f"{reason}, again and again")
    return Outcome(
        "unusable",
        code,
        f"{reason}, again and again; it was left out so that the other slots go on",
    )
