"""One slot that answers: request body in, response body out, everything measured on the way.

Two ways lead through it. The direct one runs each request by itself, in the caller. The other
collects requests (`whimbrel_agent.serving.batching`) and runs their rows together; it is chosen at
load, where calibration on this device shows that it pays.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from whimbrel_agent.serving.engine import ModelFailedError
from whimbrel_agent.serving.responses import ResponseTemplate
from whimbrel_agent.serving.schema import InputSchema
from whimbrel_core.errors import RequestError, WhimbrelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from whimbrel_agent.channel import ServingSettings
    from whimbrel_agent.serving.engine import Calibration, Engine
    from whimbrel_agent.serving.schema import InferRequest
    from whimbrel_agent.telemetry.slot import SlotTelemetry

    # What a run gave one request: its outputs, or why there are none.
    Outcome = list[NDArray[Any]] | ModelFailedError

MAX_LABELS = 10_000


class _Label(msgspec.Struct, gc=False):
    id: str | int
    label: str | int | float | bool


class _Labels(msgspec.Struct, gc=False):
    labels: list[_Label]


_LABELS = msgspec.json.Decoder(_Labels)


class SlotService:
    """Serves one model under one slot's name.

    Args:
        slot: the name in the URL.
        engine: the model.
        calibration: what a run costs here.
        telemetry: measures it; None serves without profiles.
        settings: limits.
    """

    def __init__(
        self,
        slot: str,
        engine: Engine,
        calibration: Calibration,
        telemetry: SlotTelemetry | None,
        settings: ServingSettings,
    ) -> None:
        self.slot = slot
        self.engine = engine
        self.calibration = calibration
        self.telemetry = telemetry
        self.schema = InputSchema(engine.manifest, max_rows=settings.max_rows)
        self.heavy = calibration.single_us > settings.inline_us
        self.batched = self.heavy or calibration.batching_pays
        self.shadows: list[SlotService] = []
        self.defer: Callable[[Callable[[], None]], object] | None = None
        self._template = ResponseTemplate(slot, engine.manifest)
        self._run = engine.run
        self._names = engine.output_names

    def answer(self, body: bytes) -> bytes:
        """Return the response body to the request in ``body``.

        Raises:
            RequestError: the request does not fit the model; counted as rejected.
            ModelFailedError: the model failed; counted as failed.
        """
        started = perf_counter()
        request = self.decode(body)
        try:
            outputs = self._run(request.feeds)
        except ModelFailedError:
            self.count_failed()
            raise
        return self.finish(request, outputs, started)

    def decode(self, body: bytes) -> InferRequest:
        """Return the request in ``body``. Raises `RequestError`, counted as rejected."""
        try:
            return self.schema.decode(body)
        except RequestError as error:
            self.count_rejected(error)
            raise

    def finish(self, request: InferRequest, outputs: list[NDArray[Any]], started: float) -> bytes:
        """Encode the answer and count it; ``started`` is when the request had come whole."""
        values = [output.ravel().tolist() for output in outputs]
        answer = self._template.render(outputs, values, request.id, request.outputs)
        if self.shadows and self.defer is not None:
            feeds = dict(request.feeds)
            for shadow in self.shadows:
                self.defer(
                    partial(shadow.observe, msgspec.structs.replace(request, feeds=dict(feeds)))
                )
        telemetry = self.telemetry
        if telemetry is not None:
            latency_us = (perf_counter() - started) * 1e6
            row = request.row
            named = request.id is not None or request.ids is not None
            if row is not None:
                for numbers in values:
                    row += numbers
                if not named and telemetry.record_row(row, request.at_ms, latency_us):
                    return answer
            tensors = request.feeds
            tensors.update(zip(self._names, outputs))  # noqa: B905 - the engine gives one each
            telemetry.record(
                tensors,
                request.rows,
                request.at_ms,
                latency_us,
                row_ids(request) if named else None,
                row=row,
            )
        return answer

    def answer_together(
        self, requests: list[tuple[InferRequest, float]]
    ) -> list[bytes | WhimbrelError]:
        """Run the rows of several requests at once; return an answer or an error for each.

        When the run fails, every request is run by itself, so that one cannot fail another.
        """
        outcomes = self.run_together([request for request, _ in requests])
        return self.finish_together(requests, outcomes)

    def run_together(self, requests: list[InferRequest]) -> list[Outcome]:
        """Return the outputs per request. Touches nothing but the engine: safe in a thread."""
        if len(requests) > 1:
            try:
                return self._run_stacked(requests)
            except ModelFailedError:
                pass
        outcomes: list[Outcome] = []
        for request in requests:
            try:
                outcomes.append(self._run(request.feeds))
            except ModelFailedError as error:  # noqa: PERF203 - each must fail for itself
                outcomes.append(error)
        return outcomes

    def finish_together(
        self,
        requests: list[tuple[InferRequest, float]],
        outcomes: list[Outcome],
    ) -> list[bytes | WhimbrelError]:
        """Count and encode what `run_together` returned."""
        answers: list[bytes | WhimbrelError] = []
        for (request, started), outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, ModelFailedError):
                self.count_failed()
                answers.append(outcome)
            else:
                answers.append(self.finish(request, outcome, started))
        return answers

    def observe(self, request: InferRequest) -> None:
        """Run a request that another slot has answered, for the profile alone (shadow mode)."""
        started = perf_counter()
        try:
            self.finish(request, self._run(request.feeds), started)
        except ModelFailedError:
            self.count_failed()

    def takes_what(self, other: SlotService) -> bool:
        """Return whether every request to ``other`` fits this model, too."""
        return set(self.engine.manifest.inputs) == set(other.engine.manifest.inputs)

    def label(self, body: bytes) -> bytes:
        """Join the labels in ``body`` and return how many were.

        Raises:
            RequestError: not labels, or no labels of this model. None was joined.
        """
        try:
            labels = _LABELS.decode(body).labels
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            msg = f"not a list of labels: {error}"
            raise RequestError(
                msg, code="request.labels", hint='send {"labels": [{"id": "…", "label": …}]}'
            ) from error
        if len(labels) > MAX_LABELS:
            msg = f"{len(labels)} labels in one request, {MAX_LABELS} are allowed"
            raise RequestError(msg, code="request.rows", hint="send them in several requests")
        if self.telemetry is None:
            msg = "this worker keeps no profiles, so it remembers no predictions"
            raise RequestError(msg, code="request.labels")
        joined = self.telemetry.join([(str(item.id), item.label) for item in labels])
        return msgspec.json.encode({"joined": joined, "unknown": len(labels) - joined})

    def count_rejected(self, error: RequestError) -> None:
        """Count a request that was refused with ``error`` before the model ran."""
        if self.telemetry is not None:
            self.telemetry.count_rejected(error)

    def count_failed(self) -> None:
        """Count a request in which the model failed."""
        if self.telemetry is not None:
            self.telemetry.count_failed()

    def _run_stacked(self, requests: list[InferRequest]) -> list[Outcome]:
        feeds = {
            name: np.concatenate([request.feeds[name] for request in requests])
            for name in requests[0].feeds
        }
        outputs = self._run(feeds)
        rows = sum(request.rows for request in requests)
        if any(output.shape[:1] != (rows,) for output in outputs):
            # Not one answer per row: such a model cannot be batched.
            msg = f"{self.engine.manifest.title} does not answer row by row"
            raise ModelFailedError(msg)
        answers: list[Outcome] = []
        start = 0
        for request in requests:
            end = start + request.rows
            answers.append([output[start:end] for output in outputs])
            start = end
        return answers


def row_ids(request: InferRequest) -> list[str] | None:
    """Return the prediction id of each row, or None when the request names none."""
    if request.ids is not None:
        return request.ids
    if request.id is None:
        return None
    if request.rows == 1:
        return [request.id]
    return [f"{request.id}/{row}" for row in range(request.rows)]
