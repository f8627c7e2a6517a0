"""The life of workers: handover, drain, refusal to start, several models side by side."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.agent.serving.clients import Client
from tests.support import models
from tests.support.worker import WAIT_S, FakeControl, read_response, row_request, slot_spec
from whimbrel_agent.channel import ServingSettings
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import MadeBundle


def test_a_new_worker_takes_over_under_load_and_no_request_fails(
    control: FakeControl, churn: MadeBundle, publisher: PrivateKey, tmp_path: Path
) -> None:
    newer = models.build_bundle(tmp_path, models.logistic(), version="1.1.0", key=publisher)
    clients = [Client(control.port) for _ in range(4)]
    old = control.start_worker(slot_spec(churn))
    for client in clients:
        client.start()
        client.wait_for(50)
    new = control.start_worker(slot_spec(newer))
    assert old.drain() == 0
    for client in clients:
        client.wait_for(client.answered + 50)
        client.stop()
    assert [failure for client in clients for failure in client.failures] == []
    assert set.union(*(client.versions for client in clients)) == {"1.0.0", "1.1.0"}
    assert new.drain() == 0
    assert control.sink is not None
    assert control.sink.rows == sum(client.answered for client in clients)
    assert not list((control.data_dir / "profiles").glob("*.open"))


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("missing", "storage"),
        ("other key", "trust.signature"),
        ("other digest", "trust.digest"),
        ("cut short", "bundle.archive"),
        ("tampered", "bundle.archive"),
    ],
)
def test_a_worker_refuses_what_it_cannot_trust_and_says_which(
    control: FakeControl, churn: MadeBundle, tmp_path: Path, case: str, code: str
) -> None:
    spec = slot_spec(churn)
    data = bytearray(churn.path.read_bytes())
    path = tmp_path / "other.whim"
    keys, digest = spec.keys, ""
    if case == "other key":
        keys = (PrivateKey.generate().public.pem,)
    elif case == "other digest":
        digest = "0" * 64
    elif case == "cut short":
        del data[len(data) // 2 :]
    elif case == "tampered":
        at = data.index(b"# A model for tests")
        data[at] ^= 1
    if case != "missing":
        path.write_bytes(data)
    bad = type(spec)("churn", digest, str(path), keys)
    worker = control.start_worker(bad, ready=False)
    failed = worker.load_failed()
    assert (failed.slot, failed.code) == ("churn", code), failed
    assert worker.process.wait(WAIT_S) == 3


def test_a_worker_drains_when_its_control_is_gone(control: FakeControl, churn: MadeBundle) -> None:
    worker = control.start_worker(slot_spec(churn))
    control.infer("churn", row_request([[0.0] * 20] * 2))
    worker.channel.close()
    assert worker.process.wait(WAIT_S) == 0
    assert control.sink is not None
    assert control.sink.rows == 2


def test_a_client_too_many_is_turned_away_with_a_reason(
    control: FakeControl, churn: MadeBundle
) -> None:
    control.start_worker(slot_spec(churn), settings=ServingSettings(max_connections=2))
    links = [socket.create_connection(("127.0.0.1", control.port), timeout=10) for _ in range(2)]
    for link in links:
        link.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
        assert link.recv(4096).startswith(b"HTTP/1.1 200")
    assert control.call("GET", "/v2/health/live")[0] == 503
    for link in links:
        link.close()


def test_a_shadow_sees_the_requests_and_answers_none(
    control: FakeControl, churn: MadeBundle, publisher: PrivateKey, tmp_path: Path
) -> None:
    shadow = models.build_bundle(
        tmp_path, models.logistic(sign=-1.0), version="2.0.0", key=publisher
    )
    worker = control.start_worker(slot_spec(churn), slot_spec(shadow, "next", mode="shadow"))
    _, answer = control.infer("churn", row_request([[0.5] * 20] * 2))
    assert answer["model_version"] == "1.0.0"
    assert worker.drain() == 0
    assert control.sink is not None
    assert {(m.slot, m.rows) for m in control.sink.windows.values()} == {("churn", 2), ("next", 2)}


def test_a_heavy_model_runs_apart_and_the_light_one_beside_it_answers(
    control: FakeControl, churn: MadeBundle, publisher: PrivateKey, tmp_path: Path
) -> None:
    heavy = models.build_bundle(
        tmp_path, models.network(1536), name="network", key=publisher, min_rows=1
    )
    # No time at all is allowed in the loop: every model is a heavy one, and runs in a thread.
    worker = control.start_worker(
        slot_spec(heavy), slot_spec(churn, "light"), settings=ServingSettings(inline_us=0.0)
    )
    clients = [Client(control.port) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(20):
        assert control.infer("light", row_request([[0.0] * 20]))[0] == 200
    for client in clients:
        client.wait_for(30)
        client.stop()
    assert [failure for client in clients for failure in client.failures] == []
    assert worker.drain() == 0
    assert control.sink is not None
    rows = {"churn": 0, "light": 0}
    for message in control.sink.windows.values():
        rows[message.slot] += message.rows
    assert rows == {"churn": sum(client.answered for client in clients), "light": 20}


def test_one_bad_row_does_not_fail_the_requests_it_was_batched_with(
    control: FakeControl, publisher: PrivateKey, tmp_path: Path
) -> None:
    fragile = models.build_bundle(tmp_path, models.fragile(), name="fragile", key=publisher)
    control.start_worker(slot_spec(fragile), settings=ServingSettings(inline_us=0.0))
    with socket.create_connection(("127.0.0.1", control.port), timeout=10) as link:
        sent = b""
        for index in (1, 99, 3):
            item = {"name": "i", "shape": [1, 1], "datatype": "INT64", "data": [index]}
            body = json.dumps({"inputs": [item]}).encode()
            head = b"POST /v2/models/churn/infer HTTP/1.1\r\ncontent-length: %d\r\n\r\n"
            sent += head % len(body) + body
        link.sendall(sent)
        with link.makefile("rb") as stream:
            statuses = [read_response(stream)[0] for _ in range(3)]
    assert statuses == [200, 500, 200]


def test_five_handovers_in_a_row_fail_nothing_and_lose_nothing(
    control: FakeControl, churn: MadeBundle
) -> None:
    clients = [Client(control.port) for _ in range(3)]
    worker = control.start_worker(slot_spec(churn))
    for client in clients:
        client.start()
    for _ in range(5):
        following = control.start_worker(slot_spec(churn))
        for client in clients:
            client.wait_for(client.answered + 5)
        assert worker.drain() == 0
        worker = following
    for client in clients:
        client.stop()
    assert [failure for client in clients for failure in client.failures] == []
    assert worker.drain() == 0
    assert control.sink is not None
    assert control.sink.rows == sum(client.answered for client in clients)
