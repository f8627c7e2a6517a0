"""Bad requests: each is refused with a problem that names the thing, and nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.clients import OPERATOR

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient

    from tests.support.fake_fleet.fleet import FakeFleet

SPEC = {"slot": "flights", "model": "flights", "version": "1.1.0"}
TABLE: list[tuple[str, str, object, int, str]] = [
    ("GET", "/devices/nix", None, 404, "'nix'"),
    ("GET", "/models/nix", None, 404, "'nix'"),
    ("GET", "/models/flights/drift?version=9.9.9", None, 404, "9.9.9"),
    ("GET", "/models/flights/drift?level=galaxy", None, 400, "galaxy"),
    ("GET", "/models/flights/series?since_ms=yesterday", None, 400, "since_ms"),
    ("GET", "/models/flights/histogram?version=1.0.0", None, 400, "feature"),
    ("GET", "/models/flights/histogram?version=1.0.0&feature=nix", None, 404, "'nix'"),
    ("GET", "/models/flights/quality?step=year", None, 400, "year"),
    ("GET", "/alerts?limit=0", None, 400, "limit"),
    ("GET", "/alerts?limit=100000", None, 400, "limit"),
    ("GET", "/alerts?state=burning", None, 400, "burning"),
    ("GET", "/rollouts/999", None, 404, "999"),
    ("GET", "/rollouts/seven", None, 404, "/rollouts/seven"),
    ("GET", "/nothing/here", None, 404, "/nothing/here"),
    ("DELETE", "/devices", None, 405, "/devices"),
    ("POST", "/rollouts/999/pause", None, 404, "999"),
    ("POST", "/rollouts/3/explode", None, 404, "explode"),
    ("POST", "/alerts/999/acknowledge", None, 404, "999"),
    ("PATCH", "/devices/lga", {}, 400, "labels"),
    ("PATCH", "/devices/lga", {"labels": {"a": 1}}, 400, "labels"),
    ("PATCH", "/devices/lga", {"lables": {}}, 400, "lables"),
    ("PATCH", "/devices/lga", [], 400, "object"),
    ("PATCH", "/devices/lga", b"{", 400, "truncated"),
    ("PATCH", "/devices/lga", b"\xff\xfe", 400, ""),
    ("PATCH", "/devices/nix", {"labels": {"a": "b"}}, 404, "'nix'"),
    ("PUT", "/devices/lga/slots/flights", {"model": "flights"}, 400, "version"),
    ("PUT", "/devices/lga/slots/A", {"model": "flights", "version": "1.0.0"}, 400, "'A'"),
    ("PUT", "/devices/lga/slots/flights", {"model": "nix", "version": "1.0.0"}, 404, "'nix'"),
    ("POST", "/devices/UP/enrolment", {"csr_pem": "BEGIN CERTIFICATE REQUEST"}, 400, "'UP'"),
    ("POST", "/devices/new-one/enrolment", {"csr_pem": "x"}, 400, "certificate request"),
    ("POST", "/rollouts", {**SPEC, "version": "9.9.9"}, 404, "9.9.9"),
    ("POST", "/rollouts", {**SPEC, "wave": []}, 400, "wave"),
    ("POST", "/rollouts", {**SPEC, "waves": [{"device": ["lga"]}]}, 400, "device"),
    ("POST", "/rollouts", {**SPEC, "waves": [{"devices": ["nix"]}]}, 404, "'nix'"),
    ("POST", "/rollouts", {**SPEC, "gates": {"min_auc": "high"}}, 400, "min_auc"),
    ("POST", "/rollouts", b"x" * (1 << 21), 413, ""),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "named"),
    TABLE,
    ids=[f"{t[0]} {t[1]} {str(t[2])[:40]}" for t in TABLE],
)
def test_a_bad_request_is_refused_by_name_and_changes_nothing(
    client: TestClient[Litestar],
    fleet: FakeFleet,
    method: str,
    path: str,
    body: object,
    status: int,
    named: str,
) -> None:
    before = (fleet.devices(), fleet.rollouts(), len(fleet.log))
    content = (
        {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
    )
    headers = {**OPERATOR, "content-type": "application/json"}
    answer = client.request(method, "/api/v1" + path, headers=headers, **content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:whimbrel:problem:{problem['code']}"
    assert problem["instance"] == "/api/v1" + path.partition("?")[0]
    assert named in problem["detail"]
    assert (fleet.devices(), fleet.rollouts(), len(fleet.log)) == before


def test_a_wrong_method_says_which_are_right(client: TestClient[Litestar]) -> None:
    assert "GET" in client.delete("/api/v1/devices").headers["allow"]
