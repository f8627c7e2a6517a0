"""What devices tell reads as sentences; nothing of what a newer agent says is lost."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_fleet.fleet import FakeFleet
from tests.support.fake_fleet.story import NOW
from whimbrel_agent.update.machine import Event
from whimbrel_server.views.audit import AuditView
from whimbrel_server.views.devices import EventView
from whimbrel_server.web import told
from whimbrel_server.web.pages.rollouts import rollout_page

SERVED = {"phase": "serving", "name": "flights", "version": "1.1.0"}
FAILED = SERVED | {"code": "probation.failed", "reason": "the AUC is 0.417."}


RATE = {
    "requests": "120",
    "expected": "20.8",
    "z": "8.51",
    "window_start_ms": "1378857600000",
    "window_end_ms": "1378861200000",
}


@pytest.mark.parametrize(
    ("kind", "detail", "text"),
    [
        (
            "drift",
            {
                "feature": "hour",
                "before": "severe",
                "now": "ok",
                "psi": "0.0000",
                "w1_sd": "0.0954",
                "window_start_ms": "1378857600000",
            },
            "hour went from severe to ok (PSI 0.00)",
        ),
        (
            "drift",
            {"feature": "label", "before": "too_few", "now": "severe", "psi": "0.8061"},
            "label is judged for the first time: severe (PSI 0.81)",
        ),
        (
            "drift",
            {"feature": "gust", "before": "warn", "now": "severe", "psi": "", "w1_sd": "1.2"},
            "gust went from warn to severe (W1 1.20)",
        ),
        (
            "rate",
            RATE | {"now": "severe"},
            "Is asked 5.7 times as much as usual: 120 requests where 21 are expected",
        ),
        ("rate", RATE | {"now": "ok"}, "Asked as much as usual again: 120 requests in a window"),
        ("rate", {"now": "severe"}, "Rate: now severe"),
        ("update.assigned", {"phase": "fetching"}, "Asked for a new version; fetching it"),
        ("update.switched", SERVED, "Serves flights 1.1.0, on probation"),
        (
            "update.failed",
            FAILED,
            "flights 1.1.0 failed its probation: the AUC is 0.417; going back",
        ),
        ("update.probed", {}, "The version asked for passed its probe; switching to it"),
        (
            "worker.down",
            {"ending": "signal 9"},
            "The serving process ended unasked (signal 9); it is started again",
        ),
        (
            "window_damaged",
            {"file": "ab.open", "code": "profile.crc", "message": "its checksum differs"},
            "A window could not be recovered: its checksum differs. Its file was kept as damaged/ab.open",
        ),
        (
            "battery.low",
            {"since_ms": "1378857600000", "volts": "3.14159", "count": "12345", "why": "cold"},
            "Battery low: count 12,345, since 11 Sep 2013 00:00, volts 3.142, why cold",
        ),
        ("window_damaged", {}, "Window damaged"),
    ],
)
def test_an_event_is_a_sentence(kind: str, detail: dict[str, str], text: str) -> None:
    assert told.sentence(kind, detail) == text


@pytest.mark.parametrize("event", get_args(Event))
def test_every_step_of_the_update_machine_is_a_sentence_of_its_own(event: str) -> None:
    text = told.sentence(f"update.{event}", FAILED)
    assert not text.startswith("Update")
    assert "{" not in text
    (line,) = told.of_events([EventView(at_ms=1, device="ewr", kind=f"update.{event}")])
    assert line.tone != "none" or event == "emptied"


@given(
    st.text(max_size=20),
    st.dictionaries(
        st.one_of(st.text(max_size=10), st.sampled_from(["a_ms", "feature", "psi", "now"])),
        st.one_of(st.text(max_size=20), st.sampled_from(["nan", "inf", "-1", "1e400", "9" * 30])),
        max_size=5,
    ),
)
def test_whatever_a_device_says_is_written(kind: str, detail: dict[str, str]) -> None:
    for name in (kind, "drift", "update.failed"):
        assert told.sentence(name, detail).strip()


def test_no_moment_stays_a_number() -> None:
    text = told.sentence("something", {"at_ms": "1378857600000", "window_start_ms": "1.5"})
    assert not re.search(r"\d{13}", text)


@pytest.mark.parametrize(
    ("action", "detail", "text"),
    [
        (
            "rollout.start",
            {"model": "flights", "version": "1.1.0", "waves": [["lga"], ["ewr", "jfk"]]},
            "Started flights 1.1.0: first lga; then ewr, jfk",
        ),
        (
            "rollout.wave_passed",
            {"event": "wave_passed", "state": "running", "wave": 1, "reason": ""},
            "Wave 1 passed its gates; wave 2 begins",
        ),
        (
            "rollout.last_wave_passed",
            {"event": "last_wave_passed", "state": "completed", "wave": 1, "reason": ""},
            "Wave 2 passed its gates; the rollout is complete",
        ),
        (
            "rollout.gate_failed",
            {"event": "gate_failed", "state": "rolling_back", "wave": 0, "reason": "AUC .42"},
            "Wave 1 was stopped: AUC .42",
        ),
        (
            "rollout.abort",
            {"state": "aborting", "wave": 0},
            "Aborted; its devices go back to what they had",
        ),
        ("rollout.renamed", {"to": "x"}, "Renamed: to x"),
    ],
)
def test_a_move_of_a_rollout_is_a_sentence(
    action: str, detail: dict[str, object], text: str
) -> None:
    entry = AuditView(at_ms=1, actor="ada", action=action, subject="rollout 1", detail=detail)
    (line,) = told.of_rollout([entry])
    assert (line.text, line.actor) == (text, "ada")


def test_the_log_of_a_rollout_holds_its_own_moves_and_its_devices_steps() -> None:
    fleet = FakeFleet()
    fleet.pause_rollout(3, "ada")
    assert [line.actor for line in rollout_page(fleet, 3).log] == ["ada"]
    lines = rollout_page(fleet, 2).log
    assert {line.device for line in lines} == {"lga"}
    assert [line.text for line in lines][:2] == [
        "Back on flights 1.1.0",
        "flights 1.2.0 failed its probation: the AUC is 0.470, at least 0.600; going back",
    ]
    assert not any("temp" in line.text for line in lines), (
        "drift is the device's, not the rollout's"
    )
    times = [line.at_ms for line in lines]
    assert times == sorted(times, reverse=True)
    assert all(line.at_ms <= NOW for line in lines)
