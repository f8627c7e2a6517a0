"""Tick batching: whatever was parsed in one turn of the event loop becomes one run. No timer.

A turn of the loop reads every socket that has bytes. The first request of a turn schedules the
run for the next one, so that a lone request waits for nothing but one pass through the selector,
and a busy worker batches by itself. A heavy model runs in a thread, one run at a time, and what
arrives in the meantime is the next batch.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from whimbrel_agent.serving.engine import ModelFailedError

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Executor

    from whimbrel_agent.serving.schema import InferRequest
    from whimbrel_agent.serving.service import Outcome, SlotService
    from whimbrel_core.errors import WhimbrelError


class Reply(Protocol):
    """Where an answer goes."""

    def resolve(self, answer: bytes | WhimbrelError) -> None:
        """Take the response body, or the error that is the answer."""


class Batcher:
    """Collects the requests to one slot and runs them together.

    Args:
        service: of the slot.
        loop: the worker's event loop.
        max_rows: of one run.
        executor: runs a heavy model apart from the loop; None runs it in the loop.
    """

    def __init__(
        self,
        service: SlotService,
        loop: asyncio.AbstractEventLoop,
        *,
        max_rows: int,
        executor: Executor | None,
    ) -> None:
        self._service = service
        self._loop = loop
        self._max_rows = max_rows
        self._executor = executor
        self._waiting: deque[tuple[InferRequest, float, Reply]] = deque()
        self._scheduled = False
        # Where rows do not get cheaper, a heavy model answers one request after the other.
        self._together = service.calibration.batching_pays

    def submit(self, request: InferRequest, started: float, reply: Reply) -> None:
        """Queue a request; its reply is resolved once."""
        self._waiting.append((request, started, reply))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        if self._executor is None:
            while self._waiting:
                batch = self._next()
                answers = self._service.answer_together([(r, started) for r, started, _ in batch])
                self._resolve(batch, answers)
            self._scheduled = False
            return
        batch = self._next()
        run = self._loop.run_in_executor(
            self._executor, self._service.run_together, [request for request, _, _ in batch]
        )
        run.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(
        self,
        batch: list[tuple[InferRequest, float, Reply]],
        done: asyncio.Future[list[Outcome]],
    ) -> None:
        requests = [(request, started) for request, started, _ in batch]
        error = done.exception()
        if error is None:
            answers = self._service.finish_together(requests, done.result())
        else:
            failed = ModelFailedError(f"the run ended with {type(error).__name__}: {error}")
            failures: list[Outcome] = [failed] * len(requests)
            answers = self._service.finish_together(requests, failures)
        self._resolve(batch, answers)
        if self._waiting:
            self._start()
        else:
            self._scheduled = False

    def _next(self) -> list[tuple[InferRequest, float, Reply]]:
        batch = [self._waiting.popleft()]
        rows = batch[0][0].rows
        while (
            self._together and self._waiting and rows + self._waiting[0][0].rows <= self._max_rows
        ):
            item = self._waiting.popleft()
            rows += item[0].rows
            batch.append(item)
        return batch

    @staticmethod
    def _resolve(
        batch: list[tuple[InferRequest, float, Reply]], answers: list[bytes | WhimbrelError]
    ) -> None:
        for (_, _, reply), answer in zip(batch, answers, strict=True):
            reply.resolve(answer)
