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
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from whimbrel_agent.channel import LocalEvent, SlotSpec
from whimbrel_agent.control.slots import Quarantined
from whimbrel_agent.control.supervisor import CRASH, TIMEOUT, WorkerFailedError
from whimbrel_agent.control.waiting import within
from whimbrel_agent.system import resources
from whimbrel_agent.update import child, download, machine, trust
from whimbrel_agent.update.blame import Blame, from_outside
from whimbrel_agent.update.machine import Effect, Event, SlotState
from whimbrel_agent.update.messages import ProbeRequest, UpdateRequest, Wanted
from whimbrel_agent.update.metering import take_tally
from whimbrel_core.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from whimbrel_agent.channel import Judgement
    from whimbrel_agent.config import Config
    from whimbrel_agent.control.slots import SlotStore
    from whimbrel_agent.control.state import StateFile
    from whimbrel_agent.control.supervisor import Supervisor
    from whimbrel_agent.paths import DataDirectory
    from whimbrel_agent.update.messages import Answer, Failure
    from whimbrel_core.wire.assignment import Assignment

_RETRY_MAX_S = 300.0
_RESTART_MAX_S = 30.0
# Two workers at once need the new model twice over while it loads, and some air.
_OVERLAP_FACTOR = 1.5
_OVERLAP_AIR_BYTES = 48 << 20
_DAMAGED = ("trust.", "bundle.", "storage", "profile.")


class Outcome(NamedTuple):
    """What an effect found out."""

    event: Event
    code: str = ""
    reason: str = ""


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
        self._home = home
        self._state = state
        self._store = slots
        self._supervisor = supervisor
        self._report = report
        self._changed = changed
        self._observe = observe or (lambda _effect, _when: None)
        self._slots: dict[str, SlotState] = {}
        self._quarantined: dict[str, Quarantined] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._updating = asyncio.Lock()
        self._probing = asyncio.Lock()
        self._swapping = asyncio.Lock()
        self._wake = asyncio.Event()
        self._blame = Blame()
        self._downloaded = 0
        self._restarting: asyncio.Task[None] | None = None
        self._stopped = False
        self.last_error = ""
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # ------------------------------------------------------------------ what others look at

    @property
    def states(self) -> Mapping[str, SlotState]:
        """The slots by name."""
        return self._slots

    @property
    def quarantined(self) -> Mapping[str, Quarantined]:
        """Digests that are not tried again."""
        return self._quarantined

    # ------------------------------------------------------------------ what others ask

    async def start(self) -> None:
        """Serve what the stored states say, then take up every phase where it was."""
        self._slots = self._store.load()
        self._quarantined = self._store.quarantined()
        await self._serve_or_retry()
        for slot, state in tuple(self._slots.items()):
            self._begin(slot, machine.resume(state))

    async def stop(self) -> None:
        """Stop every effect; the states are stored, and taken up at the next start."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        tasks = [*self._tasks.values(), *([self._restarting] if self._restarting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def assign(self, assignment: Assignment) -> None:
        """Take a verified assignment: the whole truth about every slot.

        Raises:
            StorageError: it could not be stored, and is not acted upon.
        """
        changed: dict[str, SlotState] = {}
        for slot in {*assignment.slots, *self._slots}:
            state = self._slots.get(slot) or SlotState(slot)
            changed[slot] = msgspec.structs.replace(
                state, wanted=assignment.slots.get(slot), revision=assignment.revision
            )
        self._store.save_assignment(list(changed.values()), assignment.revision)
        self._slots.update(changed)
        for slot in changed:
            self._reconsider(slot)
        self._changed()

    def sync(self, *, asked: bool) -> None:
        """Try at once what waits for another try, and what was refused and may hold now.

        Args:
            asked: by a person: then what was found unusable is tried, too.
        """
        self._wake.set()
        self._wake = asyncio.Event()
        for slot, state in tuple(self._slots.items()):
            wanted = state.wanted
            if state.phase != "failed" or wanted is None:
                continue
            if asked or state.left_out != wanted.digest:
                self._slots[slot] = msgspec.structs.replace(state, given_up=-1)
                self._reconsider(slot)

    def forgive(self, digest: str) -> bool:
        """Let a quarantined digest be tried again; return whether it was in quarantine."""
        found = self._store.forgive(digest)
        self._quarantined = self._store.quarantined()
        if found:
            self.sync(asked=True)
            self._changed()
        return found

    def judge(self, judgement: Judgement) -> None:
        """Take the worker's judgement of a version on probation."""
        state = self._slots.get(judgement.slot)
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
        if self._stopped:
            return
        now = time.monotonic()
        running = () if from_outside(ending) else at_work
        names = ", ".join(spec.slot for spec in running)
        self.last_error = f"the worker ended unasked ({ending})" + (
            f" while {names} was answering" if names else ""
        )
        self._note("worker.down", detail={"ending": ending, "running": names})
        suspects = {spec.digest for spec in running} or {
            state.current.digest
            for state in self._slots.values()
            if machine.on_probation(state) and state.current is not None
        }
        guilty = self._blame.crashed(suspects, now)
        for slot, state in tuple(self._slots.items()):
            if state.current is not None and state.current.digest in guilty:
                self._interrupt(slot, self._guilt(state, f"the worker crashed with it ({ending})"))
        if not guilty and (self._restarting is None or self._restarting.done()):
            self._restarting = asyncio.create_task(self._serve_or_retry(self._blame.pause_s(now)))
            self._restarting.add_done_callback(self._check)

    def _guilt(self, state: SlotState, reason: str, code: str = CRASH) -> Outcome:
        """Return what becomes of a slot whose version cannot be served, from the machine's view."""
        if machine.on_probation(state) and (state.phase, "failed") in machine.TABLE:
            return Outcome("failed", code, f"{reason}, again and again")
        return Outcome(
            "unusable",
            code,
            f"{reason}, again and again; it was left out so that the other slots go on",
        )

    async def bring_trust(self) -> Failure | None:
        """Fetch the newest trust files without any bundle; return why not, if so."""
        if not self._config.repository.url:
            return None
        try:
            async with self._updating:
                answer = await self._run_updater(None)
        except StorageError as error:
            return child.failure(error)
        return answer.failure

    # ------------------------------------------------------------------ the machine's steps

    def _advance(self, slot: str, outcome: Outcome) -> tuple[Effect, ...]:
        """Store the state after ``outcome`` and return its effects."""
        before = self._slots[slot]
        now_ms = int(time.time() * 1000)
        after, effects = machine.step(
            before, outcome.event, code=outcome.code, reason=outcome.reason, now_ms=now_ms
        )
        if after is before:
            return ()
        bad = before.candidate or before.current
        if outcome.event == "failed":
            bad = before.current
        quarantine = None
        if "quarantine" in effects and bad is not None:
            quarantine = Quarantined(bad.digest, slot, outcome.code, outcome.reason, now_ms)
        self._store.save(after, quarantine)
        if quarantine is not None:
            self._quarantined[quarantine.digest] = quarantine
        if after.phase == "empty" and after.wanted is None:
            del self._slots[slot]
        else:
            self._slots[slot] = after
        if outcome.event != "retry" or before.error_code != outcome.code:
            self._tell(outcome, before, after)
        self._changed()
        return effects

    async def _advanced(self, slot: str, outcome: Outcome) -> tuple[Effect, ...]:
        """As `_advance`; where the disk refuses the state, nothing is done until it takes it."""
        tries = 0
        while True:
            try:
                return self._advance(slot, outcome)
            except StorageError as error:
                self.last_error = f"{slot}: {error.message}; waiting for the disk"
                self._changed()
            await self._pause(tries)
            tries += 1
            if slot not in self._slots:
                return ()

    def _tell(self, outcome: Outcome, before: SlotState, after: SlotState) -> None:
        about = machine.about(outcome.event, before, after)
        detail: dict[str, str] = {"phase": after.phase}
        if about is not None and about.version:
            detail |= {"version": about.version, "name": about.name}
        if outcome.code:
            detail |= {"code": outcome.code, "reason": outcome.reason}
            self.last_error = f"{before.slot}: {outcome.reason}"
        self._note(
            f"update.{outcome.event}",
            slot=before.slot,
            digest=about.digest if about is not None else "",
            detail=detail,
        )

    def _note(
        self, kind: str, *, slot: str = "", digest: str = "", detail: dict[str, str] | None = None
    ) -> None:
        self._report(
            LocalEvent(
                event_id=secrets.token_hex(8),
                at_ms=int(time.time() * 1000),
                kind=kind,
                slot=slot,
                digest=digest,
                detail=detail or {},
            )
        )

    def _reconsider(self, slot: str) -> None:
        state = self._slots[slot]
        event = machine.wish(state, refused=self._refused(state))
        if event is not None:
            self._interrupt(slot, self._wish_outcome(event, state))
        elif state.phase == "empty" and state.wanted is None:
            self._store.save(state)
            del self._slots[slot]

    def _refused(self, state: SlotState) -> bool:
        return state.wanted is not None and state.wanted.digest in self._quarantined

    def _wish_outcome(self, event: Event, state: SlotState) -> Outcome:
        if event == "refused" and state.wanted is not None:
            why = self._quarantined[state.wanted.digest]
            return Outcome(
                event,
                "quarantine",
                f"{state.wanted.digest[:12]}… is in quarantine since it failed here: {why.reason}",
            )
        return Outcome(event)

    def _interrupt(self, slot: str, outcome: Outcome) -> None:
        state = self._slots.get(slot)
        if state is None or (state.phase, outcome.event) not in machine.TABLE or self._stopped:
            return
        previous = self._tasks.get(slot)

        async def go() -> None:
            if previous is not None:
                previous.cancel()
                await asyncio.gather(previous, return_exceptions=True)
            if slot in self._slots:
                await self._work(slot, await self._advanced(slot, outcome))

        self._launch(slot, go())

    def _begin(self, slot: str, effects: tuple[Effect, ...]) -> None:
        self._launch(slot, self._work(slot, effects))

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
        while slot in self._slots:
            if not pending:
                state = self._slots[slot]
                event = machine.wish(state, refused=self._refused(state))
                if event is None:
                    return
                pending.extend(await self._advanced(slot, self._wish_outcome(event, state)))
                tries = 0
                if not pending:
                    return
                continue
            effect = pending.popleft()
            self._observe(effect, "before")
            outcome = await self._perform(effect, slot)
            self._observe(effect, "after")
            if outcome is None:
                continue
            if slot not in self._slots:
                return
            pending = deque(await self._advanced(slot, outcome))
            if outcome.event == "retry":
                await self._pause(tries)
                tries += 1
            else:
                tries = 0

    async def _pause(self, tries: int) -> None:
        bound = min(_RETRY_MAX_S, self._config.repository.sync_s, 2.0**tries)
        with contextlib.suppress(asyncio.TimeoutError):
            await within(self._wake.wait(), random.uniform(bound / 2, bound))  # noqa: S311

    # ------------------------------------------------------------------ effects

    async def _perform(self, effect: Effect, slot: str) -> Outcome | None:
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
                self._collect()
        except StorageError as error:
            if effect in {"commit", "collect", "quarantine", "watch"}:
                self.last_error = error.message
                return None
            return Outcome("retry", error.code, error.message)
        return None

    async def _fetch(self, slot: str) -> Outcome:
        candidate = self._slots[slot].candidate
        if candidate is None:
            return Outcome("fetch_refused", "update.nothing", "nothing is wanted")
        wanted = candidate.assignment
        async with self._updating:
            answer = await self._run_updater(Wanted(wanted.path, wanted.digest, wanted.length))
        if answer.failure is not None:
            failed = answer.failure
            again = failed.retryable or failed.code in {"updater.crash", "updater.timeout"}
            return Outcome("retry" if again else "fetch_refused", failed.code, failed.message)
        return Outcome("fetched")

    async def _run_updater(self, wanted: Wanted | None) -> Answer:
        config = self._config
        held = tuple(path.stem for path in self._home.store.glob("*.whim"))
        known = {
            version.digest
            for state in self._slots.values()
            for version in (state.current, state.previous)
            if version is not None and version.parity_passed
        }
        request = UpdateRequest(
            url=config.repository.url,
            data_dir=str(self._home.root),
            wanted=wanted,
            held=held,
            known=tuple(known),
            floors=self._store.floors(),
            device_classes=config.device_classes,
            ca=config.repository.ca,
            timeout_s=config.repository.timeout_s,
            max_bytes=config.limits.download_bytes,
            clock_floor_ms=self._state.get_int("clock_floor_ms"),
        )
        try:
            answer = await child.run(
                "whimbrel_agent.update.updater",
                request,
                timeout_s=config.limits.update_timeout_s,
                what="updater",
            )
        finally:
            # Also when it failed, was killed, or something newer is wanted meanwhile.
            self._downloaded += take_tally(self._home.tally)
            with contextlib.suppress(StorageError):
                self._count_downloaded()
        done = answer.updated
        if done is not None and done.clock_floor_ms > request.clock_floor_ms:
            self._state.save("clock_floor_ms", done.clock_floor_ms)
        return answer

    def _count_downloaded(self) -> None:
        """Add what came over the wire to the device's counter, now or when the disk takes it."""
        if self._downloaded:
            total = self._state.get_int("bytes_downloaded") + self._downloaded
            self._state.save("bytes_downloaded", total)
            self._downloaded = 0

    async def _probe(self, slot: str) -> Outcome:
        state = self._slots[slot]
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
        self._slots[slot] = msgspec.structs.replace(
            self._slots[slot],
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
        return Outcome("probed")

    def _stage(self, slot: str) -> None:
        candidate = self._slots[slot].candidate
        if candidate is None:
            return
        final = self._home.bundle(candidate.digest)
        if not final.exists():
            download.settle(self._home.fetched(candidate.digest), final)

    async def _switch(self, slot: str) -> Outcome:
        candidate = self._slots[slot].candidate
        if candidate is None:
            return Outcome("switch_failed", "update.nothing", "nothing is wanted")
        async with self._swapping:
            try:
                await self._apply(slot)
            except WorkerFailedError as error:
                if error.slot and error.slot != slot:
                    # Another slot's version no longer loads; this candidate is not to blame.
                    self._take_out(error)
                    return Outcome("retry", error.code, error.message)
                return Outcome("switch_failed", error.code, error.message)
        asked = not machine.asks_nothing(candidate.assignment)
        return Outcome("switched" if asked else "switched_committed")

    def _watch(self, slot: str) -> None:
        state = self._slots[slot]
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
            now = self._slots.get(slot)
            if now is not None and now.current is not None and now.current.digest == digest:
                reason = f"no verdict within {deadline_s:g} s: too few rows or labels"
                self._interrupt(slot, Outcome("expired", "probation.deadline", reason))

        self._cancel_timer(slot)
        self._timers[slot] = asyncio.get_running_loop().call_later(left_s, expire)

    def _commit(self, slot: str) -> None:
        state = self._slots[slot]
        self._cancel_timer(slot)
        if state.previous is not None and state.previous.name:
            self._store.raise_floor(state.previous.name, state.previous.release)
        self._supervisor.end_probation(slot)

    async def _roll_back(self, slot: str) -> Outcome:
        self._cancel_timer(slot)
        async with self._swapping:
            try:
                await self._apply()
            except WorkerFailedError as error:
                self._take_out(error)
                return Outcome("retry", error.code, error.message)
        return Outcome("emptied" if self._slots[slot].wanted is None else "rolled_back")

    def _collect(self) -> None:
        """Remove bundles that no slot refers to, but for the newest few.

        Deltas start there, and so does whatever comes later for a version that was given up: labels
        of its predictions, and windows that a crash left open.
        """
        needed: set[str] = set()
        for state in self._slots.values():
            versions = (state.current, state.previous, state.candidate)
            needed |= {version.digest for version in versions if version is not None}
        for path in self._home.downloads.glob("*"):
            if path.suffix in {".part", ".whim"} and path.stem not in needed:
                path.unlink(missing_ok=True)
        idle = [path for path in self._home.store.glob("*.whim") if path.stem not in needed]
        kept = sorted(idle, key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[self._config.limits.store_keep :]:
            path.unlink(missing_ok=True)

    def _cancel_timer(self, slot: str) -> None:
        timer = self._timers.pop(slot, None)
        if timer is not None:
            timer.cancel()

    # ------------------------------------------------------------------ serving

    async def _apply(self, switching: str = "") -> None:
        """Have a worker serve what the states say, and the candidate in the slot ``switching``."""
        specs = []
        total = 0
        for slot, state in sorted(self._slots.items()):
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

    async def _serve_or_retry(self, delay_s: float = 0.0) -> None:
        """Serve what the states say; take out what cannot be served; try until it works."""
        while not self._stopped:
            await asyncio.sleep(delay_s)
            async with self._swapping:
                try:
                    await self._apply()
                except WorkerFailedError as error:
                    self.last_error = error.message
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

    def _take_out(self, error: WorkerFailedError) -> bool:
        """Go back from a version that does not load; return whether another try may do better now.

        A damaged file is fetched again. A model that the runtime refuses is out at once, one that
        crashes or hangs while it loads after it did so a few times.
        """
        state = self._slots.get(error.slot)
        if state is None or state.current is None or state.current.digest != error.digest:
            return False
        if error.code in {CRASH, TIMEOUT}:
            if error.digest not in self._blame.crashed({error.digest}, time.monotonic()):
                return False
            outcome = self._guilt(state, error.message, error.code)
        elif error.code.startswith(_DAMAGED):
            outcome = Outcome("damaged", error.code, error.message)
        else:
            outcome = Outcome("unusable", error.code, f"it was left out: {error.message}")
        try:
            effects = self._advance(error.slot, outcome)
        except StorageError as refused:
            self.last_error = f"{error.slot}: {refused.message}"
            return False
        if outcome.event == "damaged":
            self._home.bundle(error.digest).unlink(missing_ok=True)
        previous = self._tasks.get(error.slot)
        if previous is asyncio.current_task():
            # Inside the slot's own way back: it sees the new state when it tries again.
            return True

        async def go() -> None:
            if previous is not None:
                previous.cancel()
                await asyncio.gather(previous, return_exceptions=True)
            await self._work(error.slot, effects)

        self._launch(error.slot, go())
        return True
