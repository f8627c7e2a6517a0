"""Who may do what: a table of credentials against routes, and the session behind the login."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.web import TOKEN, token_hash
from whimbrel_core.errors import ConfigError
from whimbrel_server.api.access import SESSION_S, Access, hash_token, new_token

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient

    from tests.support.fake_fleet.fleet import FakeFleet

CREDENTIALS = {
    "nothing": {},
    "wrong": {"authorization": "Bearer whim_wrong"},
    "empty": {"authorization": "Bearer "},
    "basic": {"authorization": f"Basic {TOKEN}"},
    "long": {"authorization": "Bearer " + "x" * 5000},
    "right": {"authorization": f"Bearer {TOKEN}"},
    "lower": {"authorization": f"bearer {TOKEN}"},
}
RIGHT = {"right", "lower"}
CHANGES = [
    ("PATCH", "/api/v1/devices/lga", {"labels": {"a": "b"}}),
    ("PUT", "/api/v1/devices/lga/slots/flights", {"model": "flights", "version": "1.0.0"}),
    ("POST", "/api/v1/devices/new-one/enrolment", {"csr_pem": "BEGIN CERTIFICATE REQUEST"}),
    ("POST", "/api/v1/rollouts", {"slot": "flights", "model": "flights", "version": "1.1.0"}),
    ("POST", "/api/v1/rollouts/3/pause", None),
    ("POST", "/api/v1/alerts/4/acknowledge", None),
]
READS = ["/api/v1/devices", "/api/v1/audit", "/metrics", "/fleet.json", "/models/flights.json"]
OPEN = ["/api/v1/health", "/repository/metadata/timestamp.json", "/schema/openapi.json", "/login"]


@pytest.mark.parametrize("who", CREDENTIALS)
@pytest.mark.parametrize(("method", "path", "body"), CHANGES, ids=[c[1] for c in CHANGES])
def test_changes_need_the_token_even_where_reads_are_open(
    client: TestClient[Litestar], fleet: FakeFleet, who: str, method: str, path: str, body: object
) -> None:
    before = len(fleet.log)
    answer = client.request(method, path, json=body, headers=CREDENTIALS[who])
    if who in RIGHT:
        assert answer.is_success, answer.text
        assert len(fleet.log) == before + 1
    else:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["code"] == "access.token"
        assert "nothing was changed" in answer.json()["detail"]
        assert len(fleet.log) == before


@pytest.mark.parametrize("who", CREDENTIALS)
@pytest.mark.parametrize("path", READS)
def test_a_closed_server_shows_nothing_without_the_token(
    closed: TestClient[Litestar], who: str, path: str
) -> None:
    answer = closed.get(path, headers=CREDENTIALS[who])
    assert answer.status_code == (200 if who in RIGHT else 401)


@pytest.mark.parametrize("path", OPEN)
def test_what_devices_and_load_balancers_need_is_always_open(
    closed: TestClient[Litestar], path: str
) -> None:
    assert closed.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/models/flights?version=1.0.0", "/devices/lga", "/patterns"]
)
def test_a_person_is_led_to_the_login_and_back(closed: TestClient[Litestar], path: str) -> None:
    sent = closed.get(path, follow_redirects=False)
    assert sent.status_code == 303
    assert sent.headers["location"].startswith("/login?next=%2F")
    form = closed.get(sent.headers["location"])
    assert f'name="next" value="{path}"' in form.text
    back = closed.post("/login", data={"token": TOKEN, "next": path}, follow_redirects=False)
    assert (back.status_code, back.headers["location"]) == (303, path)
    cookie = back.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert closed.get(path).status_code == 200
    closed.post("/logout")
    assert closed.get(path, follow_redirects=False).status_code == 303


def test_a_wrong_token_gives_no_session(closed: TestClient[Litestar]) -> None:
    answer = closed.post("/login", data={"token": "whim_wrong", "next": "/"})
    assert answer.status_code == 401
    assert "not the operator token" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\r\nx: y",
    ],
)
def test_a_login_never_leads_to_another_site(closed: TestClient[Litestar], elsewhere: str) -> None:
    answer = closed.post("/login", data={"token": TOKEN, "next": elsewhere}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_session_presses_buttons_but_does_not_open_the_interface_for_changes(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    assert client.post("/rollouts/3/pause", follow_redirects=False).status_code == 401
    assert fleet.rollout(3).state == "running"
    client.post("/login", data={"token": TOKEN, "next": "/"})
    elsewhere = {"sec-fetch-site": "cross-site"}
    assert client.post("/rollouts/3/pause", headers=elsewhere).status_code == 403
    assert fleet.rollout(3).state == "running"
    assert client.post("/rollouts/3/pause", follow_redirects=False).status_code == 303
    assert fleet.rollout(3).state == "paused"
    client.post("/alerts/4/acknowledge", follow_redirects=False)
    assert fleet.alerts()[0].acknowledged_by == "operator (dashboard)"
    assert client.post("/api/v1/rollouts/3/resume").status_code == 401
    assert client.post("/rollouts/3/explode").status_code == 404
    assert client.post("/rollouts/1/pause").status_code == 409


def test_a_session_ends_by_time_and_cannot_be_made_up() -> None:
    now = [1_000_000.0]
    access = Access(token_hash=token_hash(), read_open=False, clock=lambda: now[0])
    cookie = access.session()
    assert access.is_session(cookie)
    until, _, seal = cookie.partition(".")
    for forged in (
        None,
        "",
        ".",
        f"{int(until) + 1}.{seal}",
        f"{until}.",
        f"{until}.é",
        "9" * 400 + ".x",
    ):
        assert not access.is_session(forged)
    other = Access(token_hash=token_hash(), read_open=False, clock=lambda: now[0])
    assert not other.is_session(cookie)
    now[0] += SESSION_S
    assert not access.is_session(cookie)


def test_the_token_is_known_again_without_its_hash_and_a_wrong_one_never() -> None:
    async def story() -> None:
        access = Access(token_hash=token_hash(), read_open=False)
        assert await access.is_operator(TOKEN)
        access._hash = "$argon2id$broken"  # what is remembered answers, the hash is not asked
        assert await access.is_operator(TOKEN)
        assert not await access.is_operator(TOKEN + "x")

    asyncio.run(story())


def test_without_a_hash_nobody_is_the_operator_and_a_bad_hash_does_not_start() -> None:
    assert not asyncio.run(Access(token_hash=None, read_open=True).is_operator(""))
    with pytest.raises(ConfigError, match="not an Argon2 hash"):
        Access(token_hash="plain-text-token", read_open=True)


def test_new_tokens_differ_and_their_hash_does_not_show_them() -> None:
    first, second = new_token(), new_token()
    assert first != second
    assert first not in hash_token(first)
