"""A page of another site whose name leads to this machine reads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from litestar.testing import TestClient

from tests.support.fake_fleet.fleet import FakeFleet
from tests.support.web import TOKEN, token_hash
from whimbrel_server import config
from whimbrel_server.api.application import WebSettings, create_app
from whimbrel_server.api.hosts import allowed
from whimbrel_server.running import web_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from litestar import Litestar

PATHS = ["/", "/api/v1/devices", "/metrics", "/repository/metadata/timestamp.json", "/login", "/x"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Litestar]]:
    settings = WebSettings(
        repository=tmp_path_factory.mktemp("none"),
        token_hash=token_hash(),
        read_open=True,
        hosts=allowed("https://Fleet.example:8443/x"),
    )
    with TestClient(create_app(FakeFleet(), settings), raise_server_exceptions=False) as made:
        yield made


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8500", "", "[::1", "10.0.0.9"]
)
def test_another_name_is_refused(guarded: TestClient[Litestar], path: str, host: str) -> None:
    answer = guarded.get(path, headers={"host": host, "authorization": f"Bearer {TOKEN}"})
    if path == "/x":
        assert answer.status_code in {404, 421}
        return
    assert answer.status_code == 421
    assert "does not answer for the name" in answer.text
    assert "public_url" in answer.text
    assert "ewr" not in answer.text


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8500",
        "localhost",
        "LOCALHOST:1",
        "[::1]:8500",
        "fleet.example",
        "Fleet.Example.:80",
    ],
)
def test_its_own_names_are_answered(guarded: TestClient[Litestar], host: str) -> None:
    answer = guarded.get("/api/v1/devices", headers={"host": host})
    assert answer.status_code == 200
    assert answer.json()


@pytest.mark.parametrize(
    ("http", "read", "guard"),
    [
        (config.Http(), "auto", True),
        (config.Http(), "open", True),
        (config.Http(), "token", False),
        (config.Http(host="192.0.2.7"), "auto", False),
        (config.Http(host="192.0.2.7"), "open", False),
    ],
)
def test_open_reads_on_loopback_are_guarded(
    tmp_path: Path, http: config.Http, read: str, guard: bool
) -> None:
    (tmp_path / "token.hash").write_text(token_hash())
    auth = config.Auth(token_hash_file="token.hash", read=read)  # type: ignore[arg-type]
    made = web_settings(config.Settings(config.Config(http=http, auth=auth), tmp_path))
    assert (made.hosts is not None) is guard
