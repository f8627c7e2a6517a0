"""The rules of a test run hold: loopback only, tiers in order, nothing skipped silently."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support import network, tiers
from tests.support.ports import free_port as find_port

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        (b"localhost", True),
        (None, True),
        ("0.0.0.0", False),  # noqa: S104 - what is refused
        ("", False),
        ("192.0.2.1", False),
        ("::", False),
        ("example.org", False),
        (7, False),
    ],
)
def test_only_this_machine_is_local(host: object, local: bool) -> None:
    assert network.is_local(host) is local


@pytest.mark.parametrize("method", ["connect", "bind"])
def test_reaching_further_fails_even_when_the_error_is_caught(
    method: str, offences: list[str]
) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(network.OutsideNetworkError),
    ):
        getattr(sock, method)(("192.0.2.1", 9))
    assert len(offences) == 1
    offences.clear()  # or this test would fail, which is the point


def test_a_name_is_not_looked_up(offences: list[str]) -> None:
    with pytest.raises(network.OutsideNetworkError):
        socket.getaddrinfo("example.org", 80)
    offences.clear()


def test_unix_sockets_and_loopback_are_free(tmp_path: Path, free_port: int) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
    with socket.create_server(("127.0.0.1", free_port)) as server:
        socket.create_connection(server.getsockname()).close()
    assert find_port() > 1023


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project of its own with this one's plugin, as if its folder were `tests/`."""
    pytester.makepyprojecttoml(
        '[tool.pytest]\nstrict = true\nmarkers = ["needs", "campaign"]\n'
        'addopts = ["-p", "tests.support.tiers"]\n'
    )
    for tier in ("agent", "core", "e2e"):
        folder = pytester.path / "tests" / tier
        folder.mkdir(parents=True)
        (folder / f"test_{tier}.py").write_text(
            "import pytest\n"
            f"def test_runs_{tier}(): pass\n"
            "@pytest.mark.needs('no-such-program')\n"
            f"def test_skipped_{tier}(): pass\n"
            "@pytest.mark.campaign\n"
            f"def test_long_{tier}(): pass\n"
        )
    return pytester


def test_quick_tiers_come_first_and_what_did_not_run_is_named(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "TESTS", project.path / "tests")
    result = project.runpytest_inprocess("-v", "-p", "no:randomly")
    result.assert_outcomes(passed=3, skipped=3, deselected=3)
    result.stdout.fnmatch_lines(
        ["*test_runs_core PASSED*", "*test_runs_agent PASSED*", "*test_runs_e2e PASSED*"]
    )
    result.stdout.fnmatch_lines(
        [
            "did not run: 1 of tests/core: a campaign (make campaign)",
            "did not run: 1 of tests/core: not on PATH: no-such-program",
            "did not run: 1 of tests/agent: a campaign*",
            "did not run: 1 of tests/e2e: not on PATH: no-such-program",
        ]
    )


def test_a_report_for_make_test_is_written_instead(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "TESTS", project.path / "tests")
    report = project.path / "report.json"
    result = project.runpytest_inprocess(f"--not-run={report}", "--campaign")
    result.assert_outcomes(passed=6, skipped=3)
    result.stdout.no_fnmatch_line("did not run*")
    found = json.loads(report.read_text())
    assert found["ran"] == {"core": 2, "agent": 2, "e2e": 2}
    assert len(found["not_run"]) == 3
