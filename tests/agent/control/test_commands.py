"""``whimbrel agent …`` as a person at the device uses it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import RunningAgent
from tests.support.models import MadeBundle, build_bundle
from tests.support.repository import RepositorySimulator
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from pathlib import Path


def whimbrel(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whimbrel_core.cli", "agent", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeBundle:
    folder = tmp_path_factory.mktemp("bundles")
    found = build_bundle(folder)
    (folder / "key.pub").write_text(found.pem)
    return found


def test_status_sync_and_outbox_tell_about_the_running_agent(
    tmp_path: Path, made: MadeBundle
) -> None:
    repository = RepositorySimulator(tmp_path / "repository", made.key)
    agent = RunningAgent(tmp_path / "agent", None, repository)
    config = ("--config", str(agent.config))
    try:
        agent.start()
        agent.wait_for(agent.home.fleet_json.exists)
        shown = whimbrel("status", *config)
        assert shown.returncode == 0
        assert "none is assigned yet" in shown.stdout
        assert "no fleet is configured" in shown.stdout
        found = json.loads(whimbrel("status", "--json", *config).stdout)
        assert found["device"] == "device-1"
        assert json.loads(whimbrel("outbox", "--json", *config).stdout)["dropped_windows"] == 0
        assert "up to date" in whimbrel("sync", *config).stdout
        unknown = whimbrel("forgive", "abc", *config)
        assert unknown.returncode != 0
        assert "names 0 of the 0 digests in quarantine" in unknown.stderr
    finally:
        agent.stop()
    said = agent.log.read_text()
    assert "of device-1 serves on 127.0.0.1:" in said
    assert "stopping" in said
    gone = whimbrel("status", *config)
    assert gone.returncode == 6
    assert f"error: no agent runs on {agent.home.root}" in gone.stderr
    assert "hint:" in gone.stderr


def test_check_names_each_problem_and_what_to_do(tmp_path: Path, made: MadeBundle) -> None:
    repository = RepositorySimulator(tmp_path / "repository", made.key)
    agent = RunningAgent(tmp_path / "agent", None, repository, url=str(tmp_path / "unplugged"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = agent.config.read_text().replace("port = 0", f"port = {port}")
        agent.config.write_text(text)
        done = whimbrel("check", "--json", "--config", str(agent.config))
    assert done.returncode == 5
    checks = {found["what"]: found for found in json.loads(done.stdout)["checks"]}
    assert [what for what in ("config", "data", "disk", "trust") if not checks[what]["ok"]] == []
    assert not checks["port"]["ok"]
    assert str(port) in checks["port"]["detail"]
    assert not checks["repository"]["ok"]
    assert checks["repository"]["hint"] == "is the medium mounted?"
    plain = whimbrel("check", "--config", str(agent.config))
    assert "problem  repository" in plain.stdout


def test_a_taken_port_is_said_and_nothing_is_left_running(tmp_path: Path) -> None:
    agent = RunningAgent(tmp_path / "agent")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = whimbrel("run", "--config", str(agent.config), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 6
    assert "is taken by another program" in done.stderr
    assert "choose another http.port" in done.stderr


def test_serve_verifies_a_bundle_and_answers_without_any_fleet(made: MadeBundle) -> None:
    command = [sys.executable, "-u", "-m", "whimbrel_core.cli", "agent", "serve", str(made.path)]
    command += ["--key", str(made.path.parent / "key.pub"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("churn 1.0.0 verified and proven on 16 rows")
            address = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline())
            assert address is not None
            connection = http.client.HTTPConnection(address[1], int(address[2]), timeout=20)
            item = {"name": "x", "shape": [1, 20], "datatype": "FP32", "data": [0.1] * 20}
            connection.request("POST", "/v2/models/churn/infer", json.dumps({"inputs": [item]}))
            response = connection.getresponse()
            assert response.status == 200
            response.read()
            connection.close()
        finally:
            process.terminate()
        assert process.wait(30) == 0


def test_serve_refuses_what_it_cannot_prove(made: MadeBundle, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pub"
    stranger.write_text(PrivateKey.generate().public.pem)
    wrong = whimbrel("serve", str(made.path), "--key", str(stranger), "--port", "0")
    assert wrong.returncode == 4
    assert "no trusted key verifies the signature" in wrong.stderr
    cut = tmp_path / "cut.whim"
    cut.write_bytes(made.path.read_bytes()[:5000])
    short = whimbrel("serve", str(cut), "--key", str(made.path.parent / "key.pub"))
    assert short.returncode == 3
    assert "cut short" in short.stderr
    none = whimbrel("serve", str(tmp_path / "no.whim"), "--key", str(stranger))
    assert none.returncode == 3
    assert "no.whim cannot be read" in none.stderr
    swapped = whimbrel("serve", str(made.path), "--key", str(cut))
    assert swapped.returncode == 3
    assert f"--key {cut}" in swapped.stderr


def test_the_systemd_unit_takes_every_privilege_away(tmp_path: Path) -> None:
    done = whimbrel("service", "--config", str(tmp_path / "a.toml"), "--user", "edge")
    assert done.returncode == 0
    for line in ("Type=notify", "User=edge", "NoNewPrivileges=yes", "CapabilityBoundingSet="):
        assert line in done.stdout
    assert f"--config {tmp_path / 'a.toml'}" in done.stdout


@pytest.mark.parametrize(
    "name", ["run", "check", "status", "sync", "outbox", "forgive", "serve", "service"]
)
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = whimbrel(name, "--help")
    assert done.returncode == 0
    assert f"Example: whimbrel agent {name}" in done.stdout
