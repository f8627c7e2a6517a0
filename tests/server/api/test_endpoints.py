"""Every endpoint answers with the views of the fleet, and changes reach it with their actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.server.clients import OPERATOR
from tests.support.fake_fleet.fleet import FakeFleet
from tests.support.fake_fleet.story import AUTUMN, MARCH, MODEL
from whimbrel_core.errors import StorageError, UnavailableError
from whimbrel_server.views.alerts import AlertView
from whimbrel_server.views.audit import AuditView
from whimbrel_server.views.devices import CountsView, DeviceView, EventView
from whimbrel_server.views.drift import DriftView
from whimbrel_server.views.enrolment import Enrolment
from whimbrel_server.views.health import HealthView
from whimbrel_server.views.history import HistogramView, SeriesPoint
from whimbrel_server.views.models import ModelView
from whimbrel_server.views.rollouts import RolloutView
from whimbrel_server.views.slices import SliceView
from whimbrel_server.views.stored import StoredCountsView
from whimbrel_server.views.verdicts import ExplanationView, ReplayView

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient

DAY = 86_400_000
Wanted = Callable[[FakeFleet], object]
READS: list[tuple[str, Any, Wanted]] = [
    ("/devices", tuple[DeviceView, ...], lambda f: f.devices()),
    ("/devices/lga", DeviceView, lambda f: f.device("lga")),
    ("/models", tuple[ModelView, ...], lambda f: f.models()),
    ("/models/flights", ModelView, lambda f: f.model(MODEL)),
    ("/models/flights/drift", tuple[DriftView, ...], lambda f: f.drift(MODEL)),
    (
        "/models/flights/drift?version=1.0.0&level=device&subject=lga",
        tuple[DriftView, ...],
        lambda f: f.drift(MODEL, "1.0.0", "device", "lga"),
    ),
    (
        f"/models/flights/series?version=1.0.0&device=lga&feature=temp&since_ms={MARCH + 9 * DAY}&until_ms={MARCH + 20 * DAY}",
        dict[str, tuple[SeriesPoint, ...]],
        lambda f: f.drift_series(
            MODEL,
            "1.0.0",
            device="lga",
            feature="temp",
            since_ms=MARCH + 9 * DAY,
            until_ms=MARCH + 20 * DAY,
        ),
    ),
    (
        "/models/flights/histogram?version=1.0.0&feature=temp&subject=lga",
        HistogramView,
        lambda f: f.histogram(MODEL, "1.0.0", "lga", "temp"),
    ),
    (
        f"/models/flights/counts?version=1.0.0&subject=lga&since_ms={AUTUMN + 9 * DAY}",
        StoredCountsView,
        lambda f: f.stored_counts(MODEL, "1.0.0", "lga", "day", AUTUMN + 9 * DAY),
    ),
    (
        "/models/flights/quality?step=day&version=1.2.0",
        dict[str, tuple[SeriesPoint, ...]],
        lambda f: f.quality_series(MODEL, "1.2.0", None, "day"),
    ),
    ("/alerts", tuple[AlertView, ...], lambda f: f.alerts()),
    ("/alerts?state=open&limit=1", tuple[AlertView, ...], lambda f: f.alerts("open", 1)),
    (
        "/models/flights/slices?version=1.0.0&subject=lga",
        tuple[SliceView, ...],
        lambda f: f.slices(MODEL, "1.0.0", "lga"),
    ),
    ("/alerts/3/explanation", ExplanationView, lambda f: f.explain(3)),
    ("/alerts/4/explanation", ExplanationView, lambda f: f.explain(4)),
    ("/alerts/3/replay", ReplayView, lambda f: f.replay(3)),
    ("/alerts/replays?limit=3", tuple[ReplayView, ...], lambda f: f.replays(3)),
    ("/rollouts", tuple[RolloutView, ...], lambda f: f.rollouts()),
    ("/rollouts/2", RolloutView, lambda f: f.rollout(2)),
    ("/events?device=lga&limit=3", tuple[EventView, ...], lambda f: f.events("lga", 3)),
    ("/counts", tuple[CountsView, ...], lambda f: f.counts()),
    ("/audit", tuple[AuditView, ...], lambda f: f.audit()),
    ("/health", HealthView, lambda f: f.health()),
]


@pytest.mark.parametrize(("path", "kind", "wanted"), READS, ids=[r[0] for r in READS])
def test_a_read_answers_with_what_the_fleet_says(
    client: TestClient[Litestar], fleet: FakeFleet, path: str, kind: type[Any], wanted: Wanted
) -> None:
    answer = client.get("/api/v1" + path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert msgspec.json.decode(answer.content, type=kind) == wanted(fleet)


@pytest.mark.parametrize(("path", "kind", "wanted"), READS, ids=[r[0] for r in READS])
def test_a_new_server_answers_every_read_with_nothing_or_not_found(
    new_server: TestClient[Litestar], path: str, kind: type[Any], wanted: Wanted
) -> None:
    answer = new_server.get("/api/v1" + path)
    if path == "/health":
        assert answer.status_code == 503
        assert msgspec.json.decode(answer.content, type=kind).problems
    elif answer.status_code != 200:
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"
    else:
        msgspec.json.decode(answer.content, type=kind)


def test_a_device_is_labelled_and_the_audit_names_who_says_so(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    answer = client.patch(
        "/api/v1/devices/lga",
        json={"labels": {"site": "north", "city": ""}},
        headers={**OPERATOR, "whimbrel-actor": "ada@bench"},
    )
    assert answer.status_code == 200
    assert answer.json()["labels"] == {"site": "north", "ring": "canary"}
    assert fleet.log[-1].actor == "operator (ada@bench)"


@pytest.mark.parametrize("said", ["x" * 65, "ada; drop", "<b>", ""])
def test_an_odd_claim_of_an_actor_is_not_written_down(
    client: TestClient[Litestar], fleet: FakeFleet, said: str
) -> None:
    client.patch(
        "/api/v1/devices/lga",
        json={"labels": {"a": "b"}},
        headers={**OPERATOR, "whimbrel-actor": said},
    )
    assert fleet.log[-1].actor == "operator"


def test_a_version_is_assigned_directly(client: TestClient[Litestar]) -> None:
    body = {"model": "flights", "version": "1.0.0"}
    answer = client.put("/api/v1/devices/ewr/slots/flights", json=body, headers=OPERATOR)
    assert answer.status_code == 200
    assert answer.json()["slots"][0]["wanted_version"] == "1.0.0"
    assert answer.json()["revision_desired"] == 6


def test_a_device_is_enrolled(client: TestClient[Litestar], fleet: FakeFleet) -> None:
    body = {"csr_pem": "-----BEGIN CERTIFICATE REQUEST-----", "labels": {"site": "n"}}
    answer = client.post("/api/v1/devices/till-4/enrolment", json=body, headers=OPERATOR)
    assert answer.status_code == 201
    assert msgspec.json.decode(answer.content, type=Enrolment).device == "till-4"
    assert fleet.device("till-4").labels == {"site": "n"}


def test_a_rollout_is_started_paused_resumed_and_aborted(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    spec = {
        "slot": "flights",
        "model": "flights",
        "version": "1.1.0",
        "waves": [{"devices": ["lga"]}, {}],
    }
    started = client.post("/api/v1/rollouts", json=spec, headers=OPERATOR)
    assert started.status_code == 201
    number = started.json()["id"]
    for verb, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        moved = client.post(f"/api/v1/rollouts/{number}/{verb}", headers=OPERATOR)
        assert moved.status_code == 200
        assert moved.json()["state"] == state
    again = client.post(f"/api/v1/rollouts/{number}/pause", headers=OPERATOR)
    assert again.status_code == 409
    assert again.json()["code"] == "conflict"
    assert fleet.rollout(number).state == "aborted"


def test_an_alert_is_acknowledged_once_it_is_closed_it_is_a_conflict(
    client: TestClient[Litestar],
) -> None:
    answer = client.post("/api/v1/alerts/4/acknowledge", headers=OPERATOR)
    assert (answer.status_code, answer.json()["state"]) == (200, "acknowledged")
    assert client.post("/api/v1/alerts/1/acknowledge", headers=OPERATOR).status_code == 409


@pytest.mark.parametrize(
    ("error", "status"),
    [(UnavailableError("the store is busy"), 503), (StorageError("the disk is full"), 507)],
)
def test_a_fault_of_a_part_is_told_as_what_it_is(
    client: TestClient[Litestar], fleet: FakeFleet, error: Exception, status: int
) -> None:
    fleet.fail = error
    answer = client.get("/api/v1/devices")
    assert answer.status_code == status
    assert answer.json()["detail"] == str(error)
    assert answer.json()["retryable"] is (status == 503)


def test_a_fault_of_ours_is_logged_once_and_tells_nothing_of_itself(
    client: TestClient[Litestar], fleet: FakeFleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.fail = ZeroDivisionError("the password is swordfish")
    for path in ("/api/v1/devices", "/", "/fleet.json"):
        caplog.clear()
        answer = client.get(path)
        assert answer.status_code == 500
        assert "swordfish" not in answer.text
        assert len([r for r in caplog.records if r.name == "whimbrel.api"]) == 1


def test_metrics_are_prometheus_text_with_the_fleet_in_it(client: TestClient[Litestar]) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(answer.text)
        for s in family.samples
    }
    assert samples["whimbrel_devices", ("online", "true")] == 2
    assert samples["whimbrel_device_drift_state", ("device", "lga")] == 4
    assert samples["whimbrel_ingest_windows_total", ("device", "ewr")] == 306
    assert samples["whimbrel_devices_serving", ("model", "flights"), ("version", "1.1.0")] == 3
    assert samples[("whimbrel_server_ok",)] == 1
