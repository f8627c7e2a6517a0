"""The life of workers: handover, drain, kill -9, refusal to start, and what profiles make of it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support import models
from tests.support.worker import (
    WAIT_S,
    FakeControl,
    read_response,
    row_request,
    slot_spec,
)
from whimbrel_agent.channel import Drain, Drained, EndProbation, Judgement, ServingSettings
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_core.wire.assignment import Probation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import MadeBundle

DAY_MS = 86_400_000
NOON = 19_800 * DAY_MS + DAY_MS // 2
PERIOD_MS = 300_000


class Client(threading.Thread):
    """Hammers one slot over a connection that it keeps as long as the server does."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._stop_asked = threading.Event()
        self.counted = threading.Condition()
        self.answered = 0
        self.versions: set[str] = set()
        self.failures: list[str] = []
        self.connections = 0

    def run(self) -> None:
        body = json.dumps(row_request([[0.25] * 20])).encode()
        connection: http.client.HTTPConnection | None = None
        while not self._stop_asked.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
                self.connections += 1
            try:
                connection.request("POST", "/v2/models/churn/infer", body)
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                connection = None
                continue
            if response.status != 200:
                self.failures.append(str(answer))
            if response.getheader("connection") == "close":
                connection.close()
                connection = None
            with self.counted:
                self.answered += 1
                self.versions.add(answer.get("model_version", "?"))
                self.counted.notify_all()
        if connection is not None:
            connection.close()

    def wait_for(self, answered: int) -> None:
        with self.counted:
            assert self.counted.wait_for(lambda: self.answered >= answered, WAIT_S), self.failures

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(WAIT_S)


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


def test_every_row_is_in_a_window_after_kill_9(control: FakeControl, churn: MadeBundle) -> None:
    worker = control.start_worker(slot_spec(churn))
    client = Client(control.port)
    client.start()
    client.wait_for(300)
    worker.kill()
    answered = client.answered
    replacement = control.start_worker(slot_spec(churn))
    client.wait_for(answered + 20)
    client.stop()
    assert replacement.drain() == 0
    assert control.sink is not None
    # The request that was in flight may have been counted and not answered.
    assert client.answered <= control.sink.rows <= client.answered + 1
    assert not list((control.data_dir / "profiles").glob("*.*"))


def test_a_live_workers_windows_are_not_taken_from_it(
    control: FakeControl, churn: MadeBundle
) -> None:
    first = control.start_worker(slot_spec(churn))
    control.infer("churn", row_request([[0.0] * 20] * 3))
    second = control.start_worker(slot_spec(churn))
    assert first.drain() == 0
    control.infer("churn", row_request([[0.0] * 20] * 4))
    assert second.drain() == 0
    assert control.sink is not None
    assert sorted(message.rows for message in control.sink.windows.values()) == [3, 4]


def test_windows_wait_for_a_control_that_is_away(control: FakeControl, churn: MadeBundle) -> None:
    control.go_away()
    worker = control.start_worker(slot_spec(churn))
    for day in range(3):
        body = row_request([[0.0] * 20] * 2, parameters={"timestamp": NOON + day * DAY_MS})
        assert control.infer("churn", body)[0] == 200
    assert worker.drain() == 0
    kept = list((control.data_dir / "profiles").glob("*.closed"))
    assert len(kept) == 3
    assert all(path.stat().st_size < 4096 for path in kept), "counts, not the ring"
    sink = control.come_back()
    control.start_worker(slot_spec(churn))
    assert sink.wait_for(lambda: len(sink.windows) == 3)
    assert sink.rows == 6
    worker = control.workers[-1]
    assert worker.drain() == 0
    assert not list((control.data_dir / "profiles").glob("*.closed"))


def test_event_time_decides_the_window_and_a_late_row_gets_its_own(
    control: FakeControl, churn: MadeBundle
) -> None:
    worker = control.start_worker(slot_spec(churn))
    times = [NOON, NOON + 1000, NOON + PERIOD_MS, NOON + 2, NOON + 2 * PERIOD_MS]
    for at in times:
        status, answer = control.infer(
            "churn", row_request([[0.0] * 20], parameters={"timestamp": at})
        )
        assert status == 200, answer
    rfc = "2024-03-18T12:10:00+00:00"
    assert NOON + 2 * PERIOD_MS == 1710763800000
    control.infer("churn", row_request([[0.0] * 20], parameters={"timestamp": rfc}))
    assert worker.drain() == 0
    assert control.sink is not None
    stored = sorted(
        (message.start_ms - NOON, message.end_ms - NOON, message.rows, message.clock)
        for message in control.sink.windows.values()
    )
    assert stored == [
        (0, PERIOD_MS, 1, "event"),
        (0, PERIOD_MS, 2, "event"),
        (PERIOD_MS, 2 * PERIOD_MS, 1, "event"),
        (2 * PERIOD_MS, 3 * PERIOD_MS, 2, "event"),
    ]


def test_an_event_window_that_nobody_touches_is_closed(
    control: FakeControl, churn: MadeBundle
) -> None:
    control.start_worker(slot_spec(churn), settings=ServingSettings(idle_close_s=0.1))
    control.infer("churn", row_request([[0.0] * 20], parameters={"timestamp": NOON}))
    sink = control.sink
    assert sink is not None
    assert sink.wait_for(lambda: len(sink.windows) == 1)


def test_labels_are_joined_once_and_dated_back(control: FakeControl, churn: MadeBundle) -> None:
    worker = control.start_worker(slot_spec(churn))
    rows = churn.recipe.rows["x"]
    labels = churn.recipe.labels
    assert labels is not None
    body = row_request(rows[:8].tolist(), id="batch", parameters={"timestamp": NOON})
    _, answer = control.infer("churn", body)
    predicted = answer["outputs"][0]["data"]
    control.infer("churn", row_request([[0.0] * 20], parameters={"timestamp": NOON + PERIOD_MS}))
    sent = {
        "labels": [{"id": f"batch/{i}", "label": int(labels[i])} for i in range(8)]
        + [{"id": "nobody", "label": 1}]
    }
    assert control.call("POST", "/v2/models/churn/labels", sent) == (
        200,
        {"joined": 8, "unknown": 1},
    )
    assert control.call("POST", "/v2/models/churn/labels", sent)[1] == {"joined": 0, "unknown": 9}
    bad = {"labels": [{"id": "batch/0", "label": "perhaps"}]}
    status, error = control.call("POST", "/v2/models/churn/labels", bad)
    assert (status, error["code"]) == (400, "request.label")
    assert worker.drain() == 0
    assert control.sink is not None
    [quality] = [window for window in control.sink.decoded() if window.quality is not None]
    assert (quality.start_ms, quality.rows) == (NOON, 0)
    assert quality.quality is not None
    assert quality.quality.rows == 8
    assert quality.quality.right == sum(
        int(a) == int(b) for a, b in zip(predicted, labels[:8], strict=True)
    )


def test_a_label_that_comes_after_the_handover_is_counted_for_the_old_version(
    control: FakeControl, publisher: PrivateKey
) -> None:
    store = control.data_dir / "store"
    old = models.build_bundle(store, version="1.0.0", key=publisher, store=True)
    new = models.build_bundle(store, version="1.1.0", key=publisher, store=True)
    first = control.start_worker(slot_spec(old))
    body = row_request([[0.5] * 20], parameters={"timestamp": NOON, "ids": ["mine"]})
    control.infer("churn", body)
    second = control.start_worker(slot_spec(new))
    assert first.drain() == 0
    sent = {"labels": [{"id": "mine", "label": 1}]}
    assert control.call("POST", "/v2/models/churn/labels", sent)[1] == {"joined": 1, "unknown": 0}
    assert second.drain() == 0
    assert control.sink is not None
    joined = [
        message
        for message, window in zip(
            control.sink.windows.values(), control.sink.decoded(), strict=True
        )
        if window.quality is not None
    ]
    assert [(message.digest, message.start_ms) for message in joined] == [(old.digest, NOON)]


def test_a_damaged_window_is_set_aside_and_reported(
    control: FakeControl, churn: MadeBundle
) -> None:
    profiles = control.data_dir / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "00000000000000aa.open").write_bytes(b"\0" * 8192)
    (profiles / "00000000000000bb.closed").write_bytes(b"\0\0")
    control.start_worker(slot_spec(churn))
    sink = control.sink
    assert sink is not None
    assert sink.wait_for(lambda: len(sink.events) == 1)
    [event] = sink.events.values()
    assert event.kind == "window_damaged"
    assert event.detail["file"] == "00000000000000aa.open"
    assert (profiles / "damaged" / "00000000000000aa.open").exists()


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


def test_a_good_version_passes_its_probation(control: FakeControl, churn: MadeBundle) -> None:
    probation = Probation(rows=150, labels=120, min_auc=0.7, max_error_rate=0.02)
    worker = control.start_worker(slot_spec(churn, probation=probation))
    feed_with_labels(control, churn)
    judgement = worker.judgement("passed")
    assert judgement.rows >= 150
    assert judgement.labels >= 120
    assert judgement.evidence["auc"] > 0.7


def test_a_plausible_but_wrong_version_fails_its_probation(
    control: FakeControl, churn: MadeBundle, publisher: PrivateKey, tmp_path: Path
) -> None:
    wrong = models.build_bundle(
        tmp_path, models.logistic(sign=-1.0), version="1.2.0", key=publisher
    )
    probation = Probation(rows=150, labels=120, min_auc=0.7)
    worker = control.start_worker(slot_spec(wrong, probation=probation))
    feed_with_labels(control, churn)
    judgement = worker.judgement("failed")
    assert judgement.evidence["auc_upper"] < 0.7
    assert "AUC" in judgement.reason


def test_a_version_that_fails_requests_fails_its_probation(
    control: FakeControl, publisher: PrivateKey, tmp_path: Path
) -> None:
    fragile = models.build_bundle(tmp_path, models.fragile(), name="fragile", key=publisher)
    worker = control.start_worker(slot_spec(fragile, probation=Probation(rows=100)))
    item = {"name": "i", "shape": [1, 1], "datatype": "INT64", "data": [99]}
    for _ in range(5):
        assert control.infer("churn", {"inputs": [item]})[0] == 500
    assert "requests failed" in worker.judgement("failed").reason


def test_a_committed_version_is_judged_no_more(control: FakeControl, churn: MadeBundle) -> None:
    worker = control.start_worker(slot_spec(churn, probation=Probation(rows=3, labels=0)))
    control.infer("churn", row_request([[0.0] * 20] * 3))
    worker.judgement("passed")
    worker.send(EndProbation("churn"))
    assert control.infer("churn", row_request([[0.0] * 20]))[0] == 200
    worker.send(Drain(1.0))
    following = worker.receive()
    while isinstance(following, Judgement):  # one may have been on its way
        assert following.verdict == "passed"
        following = worker.receive()
    assert isinstance(following, Drained)


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


def test_drift_on_the_device_raises_an_alarm_without_a_network(
    control: FakeControl, publisher: PrivateKey, tmp_path: Path
) -> None:
    made = models.build_bundle(tmp_path, key=publisher, warmup_windows=8)
    rows = made.recipe.rows["x"]
    worker = control.start_worker(slot_spec(made))
    for number in range(12):
        if number == 6:  # the device goes on from where it was
            assert worker.drain() == 0
            worker = control.start_worker(slot_spec(made))
        some = np.roll(rows, 97 * number, axis=0)[:200].copy()
        some[:, 3] += 2.0 * (number >= 9)
        at_ms = NOON + 300_000 * number
        body = row_request(some.tolist(), parameters={"timestamp": at_ms})
        assert control.infer("churn", body)[0] == 200
    assert worker.drain() == 0
    assert control.sink is not None
    alarms = {event.detail["feature"]: event for event in control.sink.events.values()}
    assert alarms["x3"].kind == "drift"
    assert alarms["x3"].detail["now"] == "severe"
    assert alarms["x3"].detail["what"] == "location"
    assert abs(int(alarms["x3"].detail["since_ms"]) - NOON - 9 * 300_000) <= 300_000
    assert "x5" not in alarms


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


def feed_with_labels(control: FakeControl, made: MadeBundle) -> None:
    rows, labels = made.recipe.rows["x"], made.recipe.labels
    assert labels is not None
    for start in range(0, 400, 100):
        chunk = rows[start : start + 100].tolist()
        ids = [f"p{start + i}" for i in range(100)]
        control.infer("churn", row_request(chunk, parameters={"ids": ids, "timestamp": NOON}))
        sent = [{"id": name, "label": int(labels[start + i])} for i, name in enumerate(ids)]
        control.call("POST", "/v2/models/churn/labels", {"labels": sent})
