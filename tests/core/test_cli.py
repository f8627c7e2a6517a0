"""The `whimbrel` command is where errors become text and exit codes."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import click
import pytest

from whimbrel_core import cli
from whimbrel_core.errors import TrustError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("fail")
    @click.option("--json", "as_json", is_flag=True)
    def fail(as_json: bool) -> None:
        raise TrustError("flights-1.0.0.whim: not signed by a trusted key", hint="check the key")

    monkeypatch.setitem(cli.whimbrel.commands, "fail", fail)


def test_without_a_command_it_says_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert "Installed on this machine" in shown
    assert all(part in shown for part in cli.PARTS)


@pytest.mark.usefixtures("failing")
def test_an_error_is_a_sentence_a_hint_and_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["fail"]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: flights-1.0.0.whim: not signed by a trusted key [trust.signature]",
        "hint:  check the key",
    ]


@pytest.mark.usefixtures("failing")
def test_with_json_an_error_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fail", "--json"]) == 4
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "trust.signature"


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["no-such-command"]) == 2
    assert "no-such-command" in capsys.readouterr().err


def test_one_damaged_part_leaves_the_others_usable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint("damaged", "whimbrel_core.no_such_module:command", cli.GROUP)
    monkeypatch.setattr(cli.InstalledCommands, "_points", lambda _: {"damaged": point})
    assert cli.main([]) == 0
    assert "cannot be loaded" in capsys.readouterr().out
    assert cli.main(["damaged", "--any"]) == 2
    assert "no_such_module" in capsys.readouterr().err
