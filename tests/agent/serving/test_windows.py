"""What workers make of requests and labels: windows, whatever ends a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.agent.serving.clients import Client
from tests.support import models
from tests.support.worker import FakeControl, row_request, slot_spec
from whimbrel_agent.channel import ServingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.models import MadeBundle
    from whimbrel_core.signing.keys import PrivateKey

DAY_MS = 86_400_000
NOON = 19_800 * DAY_MS + DAY_MS // 2
PERIOD_MS = 300_000


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
