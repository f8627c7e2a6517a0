"""Alerts and retraining requests leave the server: commands, webhooks, audit."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.conftest import settings_for, until
from whimbrel_core.errors import UnavailableError
from whimbrel_server import config, triggers
from whimbrel_server.app import Fleet
from whimbrel_server.store import alerts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.house import House

EVENT = triggers.CloudEvent(
    id="alert-1-warn",
    type=triggers.DRIFT_ALARM,
    source=triggers.SOURCE,
    subject="churn/ewr/wind",
    time="2026-01-01T00:00:00.000Z",
    data={"feature": "wind"},
)
DRIFT = alerts.NewAlert(
    cause="drift/x",
    at_ms=1_735_689_600_000,
    kind="drift",
    severity="severe",
    message="wind has drifted",
    device="ewr",
    model="churn",
    version="1.0.0",
    feature="wind",
)


class Receiver:
    """An HTTP receiver of events; ``answers`` are the statuses of its next replies."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.events.append((self.headers["Content-Type"], json.loads(body)))
                self.send_response(outer.answers.pop(0) if outer.answers else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def post(url: str, attempts: int = 4) -> int:
    return triggers.post(url, EVENT, timeout_s=5.0, attempts=attempts, pause=lambda _: False)


def test_an_event_is_a_cloudevent_in_structured_json(receiver: Receiver) -> None:
    from cloudevents.core.v1.event import CloudEvent

    assert post(receiver.url) == 1
    ((content_type, event),) = receiver.events
    assert content_type == "application/cloudevents+json"
    data = event.pop("data")
    assert data == {"feature": "wind"}
    # The specification's own library takes its attributes as valid.
    attributes = {**event, "time": triggers_time(event["time"])}
    assert CloudEvent(attributes, data).get_type() == "dev.whimbrel.drift.alarm"


def triggers_time(text: str) -> object:
    from datetime import datetime

    return datetime.fromisoformat(text)


def test_a_receiver_that_fails_is_tried_again(receiver: Receiver) -> None:
    receiver.answers = [503, 429, 200]
    assert post(receiver.url) == 3


@pytest.mark.parametrize(("answers", "tries"), [([400] * 4, 1), ([500] * 4, 4)])
def test_a_receiver_that_refuses_is_given_up(
    receiver: Receiver, answers: list[int], tries: int
) -> None:
    receiver.answers = answers
    with pytest.raises(UnavailableError, match="status"):
        post(receiver.url)
    assert len(receiver.events) == tries


def test_an_address_where_nobody_listens_is_an_error(free_port: int) -> None:
    with pytest.raises(UnavailableError, match="was not taken"):
        post(f"http://127.0.0.1:{free_port}/", attempts=2)


def run(code: str, timeout_s: float = 20.0) -> triggers.CommandResult:
    return triggers.run_command([sys.executable, "-c", code], EVENT, timeout_s=timeout_s, env={})


def test_a_command_reads_the_event_and_its_output_is_kept() -> None:
    result = run(
        "import json, os, sys; e = json.load(sys.stdin);"
        "print(e['subject'], os.environ['WHIMBREL_EVENT_TYPE'])"
    )
    assert result.code == 0
    assert result.output.split() == ["churn/ewr/wind", triggers.DRIFT_ALARM]


def test_a_command_that_fails_says_so_and_one_that_hangs_is_ended_with_its_children() -> None:
    assert run("import sys; print('no data'); sys.exit(3)").code == 3
    hangs = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "time.sleep(600)"
    )
    # The grandchild holds the pipe: this returns only because the whole group is ended.
    assert run(hangs, timeout_s=0.5).code is None


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UnavailableError, match="cannot be started"):
        triggers.run_command(["/nonexistent/retrain"], EVENT, timeout_s=1.0, env={})


def test_a_drift_alarm_becomes_one_retraining_with_its_story_in_the_audit(
    house: House, tmp_path: Path, receiver: Receiver
) -> None:
    house.publish("1.0.0")
    out = tmp_path / "ran"
    code = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read() + '\\n'); print('trained')"
    settings = settings_for(
        house,
        1,
        tmp_path / "server",
        retraining=config.Retraining(command=(sys.executable, "-c", code)),
        notify=config.Notify(webhooks=(receiver.url,)),
    )
    fleet = Fleet(settings, env={})
    fleet._database.write(lambda c: alerts.raise_alert(c, DRIFT, 1))
    for _ in range(3):
        fleet._announcer.tick()
    until(lambda: any(one.action == "retraining.done" for one in fleet.audit()), "the command")
    fleet._announcer.tick()
    until(lambda: len(receiver.events) >= 3, "the events")
    fleet.stop()
    ran = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["type"] for one in ran] == [triggers.RETRAINING_REQUESTED]
    assert ran[0]["data"]["devices"] == ["ewr"]
    assert ran[0]["data"]["features"] == ["wind"]
    types = {event["type"] for _, event in receiver.events}
    assert types == {
        triggers.DRIFT_ALARM,
        triggers.RETRAINING_REQUESTED,
        "dev.whimbrel.retraining.alert",
    }


def test_a_retraining_that_a_crash_cut_off_runs_again(house: House, tmp_path: Path) -> None:
    house.publish("1.0.0")
    out = tmp_path / "ran"
    slow = config.Retraining(command=(sys.executable, "-c", "import time; time.sleep(600)"))
    fleet = Fleet(settings_for(house, 1, tmp_path / "server", retraining=slow), env={})
    fleet._database.write(lambda c: alerts.raise_alert(c, DRIFT, 1))
    fleet._announcer.tick()
    fleet.stop()
    quick = config.Retraining(command=(sys.executable, "-c", f"open({str(out)!r}, 'a').write('x')"))
    again = Fleet(settings_for(house, 1, tmp_path / "server", retraining=quick), env={})
    again._announcer.tick()
    until(lambda: any(one.action == "retraining.done" for one in again.audit()), "the command")
    again.stop()
    assert out.read_text() == "x"
