"""`whimbrel fleet` against a real HTTP server: what it prints, what it changes, how it fails."""

from __future__ import annotations

import importlib
import json
import stat
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fake_fleet.fleet import FakeFleet
from tests.support.ports import free_port
from tests.support.web import TOKEN, serving, web
from whimbrel_core import cli
from whimbrel_core.errors import UsageError
from whimbrel_server.commands.fleet.enrol import agent_toml
from whimbrel_server.commands.fleet.rollout import parse_wave
from whimbrel_server.views.enrolment import Enrolment, MqttView
from whimbrel_server.views.rollouts import RolloutSpec, RolloutView, Wave
from whimbrel_server.views.verdicts import DifferenceView, ReplayView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


OUT_FILES = {"agent.toml", "device.key", "device.crt", "ca.crt", "trust/root.json"}


class Console:
    """Runs `whimbrel fleet …` in this process, as the installed command does."""

    def __init__(
        self, fleet: FakeFleet, address: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.fleet = fleet
        self.address = address
        self.folder = folder
        self._capsys = capsys
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN + "\n")
        self.out = self.err = ""

    def run(self, *arguments: str, server: str | None = None) -> int:
        code = cli.main(["fleet", *arguments, "--server", server or self.address])
        self.out, self.err = self._capsys.readouterr()
        return code

    def change(self, *arguments: str) -> int:
        return self.run(*arguments, "--token-file", str(self.token_file))

    def json(self) -> Any:  # noqa: ANN401 - whatever was printed
        return json.loads(self.out)


@pytest.fixture(scope="module")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeFleet, str]]:
    fleet = FakeFleet()
    with serving(web(fleet, tmp_path_factory.mktemp("repo"), read_open=True)) as address:
        yield fleet, address


@pytest.fixture
def console(
    _served: tuple[FakeFleet, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Console:
    fleet, address = _served
    fleet.__init__()  # type: ignore[misc]
    return Console(fleet, address, tmp_path, capsys)


READS: list[tuple[list[str], list[str]]] = [
    (["status"], ["4, 2 online", "2 open", "889 stored"]),
    (["devices"], ["lga", "flights: flights 1.1.0", "severe temp", "not seen yet"]),
    (["devices", "lga"], ["ring=canary"]),
    (["devices", "--label", "ring=canary"], ["lga"]),
    (["models"], ["1.2.0", "0.731"]),
    (["models", "flights"], ["1.0.0"]),
    (["drift", "flights", "--subject", "lga"], ["temp", "severe alarm"]),
    (["drift", "flights", "--groups"], ["2 of 1,000", "hidden", "lga, jfk", "-1.40 sd"]),
    (["drift", "flights"], ["temp of flights 1.1.0 has drifted on 2 of 1,000 devices"]),
    (["alerts"], ["Rollout 2 of flights", "closed"]),
    (["slices", "flights"], ["night", "sched_hour ≤ 6", "temp PSI 0.81", "0.520"]),
    (
        ["explain", "3"],
        ["log e 54.2, where", "No rollout is near", "expected AUC 0.713", "replay 3"],
    ),
    (["explain", "4"], ["Rollout 2 of flights 1.2.0 stopped"]),
    (["replay", "3"], ["same", "drift.device", "to the last bit"]),
    (["replay", "--all"], ["drift.device"]),
    (["alerts", "--state", "acknowledged"], ["dewp on jfk"]),
    (["rollout", "list"], ["completed", "rolled back", "1 / 2"]),
    (["rollout", "show", "2"], ["AUC is 0.470 over 212 labels", "failed"]),
    (["events", "--device", "lga"], ["update.failed"]),
    (["audit"], ["server.started"]),
]


@pytest.mark.parametrize(("arguments", "words"), READS, ids=[" ".join(r[0]) for r in READS])
def test_what_is_read_is_printed_for_people_and_as_json(
    console: Console, arguments: list[str], words: list[str]
) -> None:
    assert console.run(*arguments) == 0, console.err
    for word in words:
        assert word in console.out
    assert console.run(*arguments, "--json") == 0
    assert console.json()


def test_a_fleet_of_nothing_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(web(FakeFleet(empty=True), tmp_path)) as address:
        console = Console(FakeFleet(empty=True), address, tmp_path, capsys)
        for command, word in (
            ("devices", "whimbrel fleet enrol"),
            ("models", "whimbrel publish"),
            ("alerts", "no alerts"),
            ("events", "no events"),
            ("status", "the broker at"),
        ):
            assert console.run(command) == 0
            assert word in console.out


def test_a_device_is_labelled_assigned_and_an_alert_acknowledged(console: Console) -> None:
    assert console.change("label", "lga", "site=north", "city=") == 0
    assert console.fleet.device("lga").labels == {"site": "north", "ring": "canary"}
    assert console.change("assign", "ewr", "flights", "flights", "1.0.0") == 0
    assert "revision 6" in console.out
    assert console.change("acknowledge", "4", "--json") == 0
    assert console.json()["state"] == "acknowledged"
    assert "@" in console.fleet.log[-1].actor


def test_a_rollout_goes_by_options_or_by_file_to_the_same_specification(console: Console) -> None:
    options = ["--wave", "lga", "--wave", "rest", "--min-auc", "0.6", "--labels", "50"]
    assert (
        console.change("rollout", "start", "flights", "flights", "1.1.0", *options, "--json") == 0
    )
    by_options = console.json()
    assert [w["devices"] for w in by_options["waves"]] == [["lga"], ["ewr", "jfk", "pump-07"]]
    file = console.folder / "spec.json"
    file.write_text(
        json.dumps(
            {
                "slot": "flights",
                "model": "flights",
                "version": "1.1.0",
                "waves": [{"devices": ["lga"]}, {}],
                "gates": {"min_auc": 0.6, "labels": 50},
            }
        )
    )
    assert console.change("rollout", "start", "--spec", str(file), "--json") == 0
    by_file = console.json()
    assert by_file["waves"] == by_options["waves"]
    number = str(by_file["id"])
    for verb, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        assert console.change("rollout", verb, number, "--json") == 0
        assert console.json()["state"] == state
    assert console.change("rollout", "pause", number) == 2
    assert "already" in console.err


def test_waiting_for_a_rollout_that_does_not_complete_exits_with_5(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = console.fleet.start_rollout

    def start_and_abort(spec: RolloutSpec, actor: str) -> RolloutView:
        view = started(spec, actor)
        console.fleet.abort_rollout(view.id, "somebody")
        return view

    # By its name in sys.modules: the package's own attribute "fleet" is the command.
    module = importlib.import_module("whimbrel_server.commands.fleet.rollout")
    monkeypatch.setattr(module, "_POLL_S", 0.0)
    monkeypatch.setattr(console.fleet, "start_rollout", start_and_abort)
    assert console.change("rollout", "start", "flights", "flights", "1.1.0", "--wait") == 5
    assert "is aborted" in console.err


@pytest.mark.parametrize(
    ("text", "wave"),
    [
        ("rest", Wave()),
        ("lga", Wave(devices=("lga",))),
        ("lga, jfk", Wave(devices=("lga", "jfk"))),
        ("ring=canary", Wave(labels={"ring": "canary"})),
        ("ring=canary,site=n", Wave(labels={"ring": "canary", "site": "n"})),
        ("25%", Wave(percent=25.0)),
        ("ring=stable:12.5%", Wave(labels={"ring": "stable"}, percent=12.5)),
    ],
)
def test_a_wave_is_written_as_one_thinks_of_it(text: str, wave: Wave) -> None:
    assert parse_wave(text) == wave


@pytest.mark.parametrize(
    "text", ["", ",", "lga:50%", "ring=a:0%", "ring=a:101%", "a=b:x", "=b", "ring=a,lga"]
)
def test_a_wave_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_wave(text)


def test_enrolment_makes_a_whole_folder_with_a_key_that_never_travelled(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    enrol = console.fleet.enrol

    def watch(device: str, csr_pem: str, labels: dict[str, str], actor: str) -> Enrolment:
        sent.append(csr_pem)
        return enrol(device, csr_pem, labels, actor)

    monkeypatch.setattr(console.fleet, "enrol", watch)
    out = console.folder / "new" / "till-4"
    assert console.change("enrol", "till-4", "--out", str(out), "--label", "site=north") == 0
    assert "whimbrel agent run --config" in console.out
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert names == OUT_FILES
    assert stat.S_IMODE((out / "device.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert "PRIVATE KEY" in (out / "device.key").read_text()
    assert "PRIVATE KEY" not in sent[0]
    config = tomllib.loads((out / "agent.toml").read_text())
    assert config["device_id"] == "till-4"
    assert config["labels"] == {"site": "north"}
    assert (out / config["root"]).exists()
    assert all((out / config["mqtt"][k]).exists() for k in ("ca", "cert", "key"))
    from cryptography import x509

    request = x509.load_pem_x509_csr(sent[0].encode())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == "CN=till-4"


def test_the_agent_reads_the_configuration_that_enrolment_writes(tmp_path: Path) -> None:
    config = pytest.importorskip("whimbrel_agent.config")
    for tls in (True, False):
        enrolment = Enrolment(
            device="till-4",
            cert_pem="",
            ca_pem="",
            root_json="{}",
            mqtt=MqttView(host="fleet.example", port=8883, tls=tls),
            repository_url="https://fleet.example/repository",
            labels={"site": 'north "tower"', "a.b": "\x7f\\"},
        )
        file = tmp_path / "agent.toml"
        file.write_text(agent_toml(enrolment, 0))
        loaded = config.load(file, {})
        assert loaded.labels == enrolment.labels
        assert bool(loaded.mqtt.cert) is tls
        assert loaded.data_dir.startswith(str(tmp_path))


FAILURES: list[tuple[list[str], int, str, str]] = [
    (["devices", "nix"], 2, "not_found", "'nix'"),
    (["label", "lga", "a=b"], 4, "access.token", "--token-file"),
    (["label", "lga", "ab"], 2, "usage", "KEY=VALUE"),
    (["assign", "lga", "s", "flights", "9.9.9", "TOKEN"], 2, "not_found", "9.9.9"),
    (["rollout", "start", "TOKEN"], 2, "usage", "SLOT, MODEL and VERSION"),
    (["rollout", "start", "a", "b", "1.0.0", "--spec", "x", "TOKEN"], 2, "usage", "--spec"),
    (["rollout", "start", "--spec", "/nowhere.json", "TOKEN"], 2, "usage", "/nowhere.json"),
    (["rollout", "abort", "1", "TOKEN"], 2, "conflict", "completed"),
    (["label", "lga", "a=b", "--token-file", "/nowhere/token"], 2, "config", "/nowhere/token"),
    (["enrol", "UPPER", "--out", "x", "TOKEN"], 3, "input.device_id", "'UPPER'"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "error", "word"), FAILURES, ids=[" ".join(f[0])[:60] for f in FAILURES]
)
def test_a_failure_names_the_thing_and_changes_nothing(
    console: Console, arguments: list[str], code: int, error: str, word: str
) -> None:
    before = len(console.fleet.log)
    run = console.change if arguments[-1] == "TOKEN" else console.run
    given = [a for a in arguments if a != "TOKEN"]
    assert run(*given) == code
    assert f"[{error}]" in console.err
    assert word in console.err
    assert console.out == ""
    assert len(console.fleet.log) == before
    assert run(*given, "--json") == code
    assert json.loads(console.err)["error"]["code"] == error


def test_a_folder_that_is_used_is_never_written_into(console: Console) -> None:
    (console.folder / "used").mkdir()
    (console.folder / "used" / "device.key").write_text("precious")
    assert console.change("enrol", "till-4", "--out", str(console.folder / "used")) == 2
    assert (console.folder / "used" / "device.key").read_text() == "precious"


def test_a_refused_enrolment_leaves_no_trace(console: Console) -> None:
    assert console.run("enrol", "till-4", "--out", str(console.folder / "fresh")) == 4
    assert sorted(p.name for p in console.folder.iterdir()) == ["token"]


@pytest.mark.parametrize(
    "address", ["ftp://x", "nonsense", "http://", "http://[", "http://127.0.0.1:99999"]
)
def test_an_address_that_is_none_is_a_usage_error(console: Console, address: str) -> None:
    assert console.run("status", server=address) == 2
    assert "error:" in console.err


def test_a_server_that_is_away_is_unavailable(console: Console) -> None:
    assert console.run("status", server=f"http://127.0.0.1:{free_port()}") == 6
    assert "whimbrel server run" in console.err


def test_something_else_behind_the_address_is_told(console: Console) -> None:
    assert console.run("devices", server=console.address + "/patterns") != 0
    assert (
        "not as a Whimbrel server does" in console.err
        or "something else" in console.err
        or "[not_found]" in console.err
    )


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    import click

    from whimbrel_server.commands.fleet import fleet

    def walk(command: click.Command, path: list[str]) -> Iterator[list[str]]:
        yield path
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk(inner, [*path, name])

    for path in walk(fleet, ["fleet"]):
        assert cli.main([*path, "--help"]) == 0
        text = capsys.readouterr().out
        assert "Example: whimbrel " + " ".join(path)[:12] in text, path


def test_a_verdict_that_differs_is_shown_and_ends_with_a_code_of_its_own(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ReplayView(
        alert=3,
        rule="drift.device",
        version=1,
        outcome="differs",
        sentence="Not the same: 1 figure of the verdict differ (61 windows).",
        differences=(DifferenceView(figure="psi", recorded=0.61, recomputed=0.58),),
        faults=("the window of aa/7 at 1: the levels are not what its counts give",),
        faults_in_all=3,
    )
    monkeypatch.setattr(console.fleet, "replay", lambda _: found)
    assert console.run("replay", "3") == 5
    assert "psi" in console.out
    assert "0.58" in console.out
    assert "aa/7" in console.out
    assert "2 more" in console.out
    assert console.run("replay", "3", "--json") == 5
    assert console.json()["outcome"] == "differs"


@pytest.mark.parametrize("words", [["replay"], ["replay", "3", "--all"]])
def test_replay_wants_one_alert_or_all(console: Console, words: list[str]) -> None:
    assert console.run(*words) == 2
    assert "give the number of an alert, or --all" in console.err


def test_what_is_no_judgement_cannot_be_replayed(console: Console) -> None:
    assert console.run("replay", "4") == 2
    assert "no verdict to recompute" in console.err
