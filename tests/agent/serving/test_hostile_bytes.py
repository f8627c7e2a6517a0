"""Whatever bytes arrive: a response or the end of the connection, and a worker that serves on."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.worker import row_request
from whimbrel_agent.channel import ServingSettings
from whimbrel_agent.serving import engine as engines
from whimbrel_agent.serving.protocol import Connection, Shared
from whimbrel_agent.serving.routes import Routes
from whimbrel_agent.serving.schema import InputSchema
from whimbrel_agent.serving.service import SlotService
from whimbrel_core.errors import RequestError

if TYPE_CHECKING:
    from tests.support.models import MadeBundle

SETTINGS = ServingSettings(max_body_bytes=2000, max_rows=16, max_header_bytes=500)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "nothing is written after the end"
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Nothing to pause."""

    def resume_reading(self) -> None:
        """Nothing to resume."""


@pytest.fixture(scope="module")
def service(churn: MadeBundle) -> SlotService:
    engine = engines.load(churn.path, [churn.pem])
    return SlotService("churn", engine, engine.calibrate(), None, SETTINGS)


def feed(service: SlotService, pieces: list[bytes]) -> Wire:
    """Give ``pieces`` to a new connection, as separate reads."""

    async def story() -> Wire:
        shared = Shared(Routes([(service, None)]), SETTINGS)
        connection = Connection(shared)
        wire = Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        for piece in pieces:
            if wire.closed:
                break
            buffer = connection.get_buffer(-1)
            buffer[: len(piece)] = piece
            connection.buffer_updated(len(piece))
        return wire

    return asyncio.run(story())


BODY = json.dumps(row_request([[0.5] * 20])).encode()
GOOD = b"POST /v2/models/churn/infer HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


def statuses(sent: bytearray) -> list[bytes]:
    return [bytes(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", sent)]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_any_bytes_are_answered_with_an_error_or_waited_for(
    service: SlotService, pieces: list[bytes]
) -> None:
    wire = feed(service, pieces)
    assert all(status[:1] in b"245" for status in statuses(wire.sent))


@given(st.data())
def test_a_request_changed_anywhere_never_breaks_the_worker(
    service: SlotService, data: st.DataObject
) -> None:
    request = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(request) - 1))
        request[at] = data.draw(st.integers(0, 255))
    wire = feed(service, [bytes(request)])
    for status in statuses(wire.sent):
        assert status in {b"200", b"400", b"404", b"405", b"413", b"415", b"431"}


@given(st.lists(st.integers(0, len(GOOD) * 2), max_size=8))
def test_requests_cut_anywhere_get_the_same_answers(service: SlotService, cuts: list[int]) -> None:
    stream = GOOD + GOOD
    edges = sorted({0, *cuts, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert statuses(feed(service, pieces).sent) == [b"200", b"200"]


OTHER_BODY = json.dumps(row_request([[0.5] * 19 + [0.9]])).encode()
CHUNKED = (
    b"POST /v2/models/churn/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
)
PLAIN_KINDS = (GOOD, CHUNKED, GOOD.replace(b"/infer", b"/nothing"), b"GET /v2 HTTP/1.1\r\n\r\n")


@given(st.lists(st.sampled_from(PLAIN_KINDS), min_size=1, max_size=6), st.data())
def test_a_head_that_was_seen_before_changes_no_answer(
    service: SlotService, requests: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(requests)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=4))
    edges = sorted({0, *cuts, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    alone = b"".join(bytes(feed(service, [request]).sent) for request in requests)
    known = feed(service, [GOOD, GOOD, *pieces]).sent
    assert without_dates(known) == without_dates(feed(service, [GOOD]).sent) * 2 + without_dates(
        alone
    )


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (GOOD[:-1], [b"200"]),  # a body that is not whole is waited for
        (GOOD[: GOOD.index(b"{")], [b"200"]),
        (GOOD + b"\r\n", [b"200", b"200"]),
        (GOOD + GOOD[:9], [b"200", b"200"]),
        (GOOD.replace(b"churn", b"other"), [b"200", b"404"]),
        (GOOD[: -len(BODY)] + b"x" * len(BODY), [b"200", b"400"]),
        (GOOD[: -len(BODY)] + BODY[:-4] + b"\r\n\r\n", [b"200", b"400"]),
        (GOOD.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"), [b"200", b"100", b"200"]),
        (GOOD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), [b"200", b"200"]),
    ],
)
def test_after_a_known_head_everything_else_is_parsed(
    service: SlotService, then: bytes, expected: list[bytes]
) -> None:
    assert statuses(feed(service, [GOOD, then]).sent) == expected
    if expected[1:] == [b"100", b"200"]:
        assert statuses(feed(service, [then, then]).sent) == expected[1:] * 2, "invited each time"


def test_a_known_head_is_answered_with_what_its_own_body_says(service: SlotService) -> None:
    other = GOOD[: -len(BODY)] + OTHER_BODY
    alone = feed(service, [other]).sent
    assert without_dates(feed(service, [GOOD, other]).sent) == without_dates(
        feed(service, [GOOD]).sent
    ) + without_dates(alone)


def test_heads_are_remembered_within_bounds(service: SlotService) -> None:
    async def story() -> Shared:
        shared = Shared(Routes([(service, None)]), SETTINGS)
        connection = Connection(shared)
        connection.connection_made(Wire())  # type: ignore[arg-type]
        for trace in range(1000):
            request = GOOD.replace(b"\r\n", b"\r\ntraceparent: %d\r\n" % trace, 1)
            connection.get_buffer(-1)[: len(request)] = request
            connection.buffer_updated(len(request))
        assert shared.served == 1000
        return shared

    assert 0 < len(asyncio.run(story()).heads) <= 128


def without_dates(sent: bytes | bytearray) -> bytes:
    return re.sub(rb"date: [^\r]*\r\n", b"", bytes(sent))


def test_a_client_that_stops_in_the_middle_is_told_and_let_go(service: SlotService) -> None:
    async def story() -> Wire:
        connection = Connection(Shared(Routes([(service, None)]), SETTINGS))
        wire = Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        connection.get_buffer(-1)[:20] = GOOD[:20]
        connection.buffer_updated(20)
        began = connection.last_active
        connection.close_if_stalled(began + 9, idle_s=100, request_s=10)
        assert not wire.sent
        connection.close_if_stalled(began + 11, idle_s=100, request_s=10)
        return wire

    assert statuses(asyncio.run(story()).sent) == [b"408"]


def test_an_idle_connection_is_closed_without_a_word(service: SlotService) -> None:
    async def story() -> Wire:
        connection = Connection(Shared(Routes([(service, None)]), SETTINGS))
        wire = Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        connection.close_if_stalled(connection.last_active + 101, idle_s=100, request_s=10)
        return wire

    wire = asyncio.run(story())
    assert (bytes(wire.sent), wire.closed) == (b"", True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {
            "name": st.just("x") | JSON,
            "shape": st.just([1, 20]) | st.lists(st.integers(), max_size=4) | JSON,
            "datatype": st.sampled_from(["FP32", "BYTES", "INT64"]) | JSON,
            "data": st.lists(st.floats(width=32) | st.none(), min_size=20, max_size=20) | JSON,
        }
    )
)
def test_any_json_is_a_request_or_a_request_error(churn: MadeBundle, item: object) -> None:
    schema = InputSchema(churn.manifest, max_rows=16)
    body = json.dumps({"inputs": [item]}).encode()
    try:
        request = schema.decode(body)
    except RequestError:
        return
    assert request.feeds["x"].shape == (request.rows, 20)
    assert request.feeds["x"].dtype == np.float32
