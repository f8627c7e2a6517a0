"""Bad files given to commands: an error that names the thing, a hint, an exit code, no trace."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.packager.command import whimbrel
from whimbrel_core.bundle import archive as archives
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.shelf import Shelf

INPUT, TRUST, USAGE = 3, 4, 2


class Desk:
    """A publisher of one's own, a bundle to be spoilt, and keys of somebody else."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.publisher = shelf.copy(folder / "publisher")
        self.repository = self.publisher / "repository"
        self.key = self.publisher / "keys" / "bundle.pub"
        self.bundle = folder / "churn-1.1.0.whim"
        shutil.copy(shelf.better.path, self.bundle)
        self.stranger = folder / "stranger.pub"
        self.stranger.write_text(PrivateKey.generate().public.pem)
        self.empty = folder / "empty.pub"
        self.empty.write_bytes(b"")

    def everything(self) -> dict[str, bytes]:
        """Return every file of the publisher."""
        files = (p for p in self.publisher.rglob("*") if p.is_file() and p.name != ".lock")
        return {str(p.relative_to(self.publisher)): p.read_bytes() for p in files}


@pytest.fixture
def desk(tmp_path: Path, shelf: Shelf) -> Desk:
    return Desk(tmp_path, shelf)


def whole(_desk: Desk) -> None:
    """Leave the bundle as it is."""


def changed(desk: Desk) -> None:
    """Change one byte of the model, and the archive's checksum with it."""
    with zipfile.ZipFile(desk.bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    model = bytearray(files["model.onnx"])
    model[len(model) // 2] ^= 1
    with desk.bundle.open("wb") as file:
        archives.write(file, {**files, "model.onnx": bytes(model)})


def cut(desk: Desk) -> None:
    """Leave out the last third, as a broken download does."""
    data = desk.bundle.read_bytes()
    desk.bundle.write_bytes(data[: 2 * len(data) // 3])


def emptied(desk: Desk) -> None:
    """Leave nothing."""
    desk.bundle.write_bytes(b"")


def replaced(desk: Desk) -> None:
    """Put something else in its place."""
    desk.bundle.write_bytes(b"\x89PNG\r\n" * 1000)


def removed(desk: Desk) -> None:
    """Take it away."""
    desk.bundle.unlink()


DAMAGES: list[tuple[Callable[[Desk], None], int, str]] = [
    (changed, TRUST, "model.onnx"),
    (cut, INPUT, "churn-1.1.0.whim"),
    (emptied, INPUT, "churn-1.1.0.whim"),
    (replaced, INPUT, "churn-1.1.0.whim"),
    (removed, INPUT, "churn-1.1.0.whim"),
]
COMMANDS: dict[str, Callable[[Desk], list[object]]] = {
    "verify": lambda desk: ["verify", desk.bundle, "--key", desk.key],
    "publish": lambda desk: [
        *("publish", desk.bundle, "--repo", desk.repository, "--keys", desk.publisher / "keys")
    ],
    "serve": lambda desk: ["agent", "serve", desk.bundle, "--key", desk.key, "--port", 0],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("spoil", "code", "named"), DAMAGES, ids=[spoil.__name__ for spoil, _, _ in DAMAGES]
)
def test_a_spoilt_bundle_is_refused_by_every_command_that_takes_one(
    desk: Desk, command: str, spoil: Callable[[Desk], None], code: int, named: str
) -> None:
    spoil(desk)
    before = desk.everything()
    done = whimbrel(*COMMANDS[command](desk))
    assert done.code in ({code} if spoil is not removed else {USAGE, INPUT, 7}), done
    assert "error: " in done.err.lower()
    assert named in done.err
    assert desk.bundle.name in done.err
    assert "Traceback" not in done.err
    assert desk.everything() == before


@pytest.mark.parametrize("command", ["verify", "serve"])
def test_a_key_of_somebody_else_verifies_nothing(desk: Desk, command: str) -> None:
    desk.key = desk.stranger
    done = whimbrel(*COMMANDS[command](desk))
    assert done.code == TRUST
    assert "churn" in done.err
    assert "hint:" in done.err
    desk.key = desk.empty
    none = whimbrel(*COMMANDS[command](desk))
    assert none.code in {USAGE, INPUT, TRUST}
    assert str(desk.empty) in none.err


CONFIGS = {
    "agent run": ("agent.toml", 'device_id = "lga"\n[mqtt]\nhsot = "x"\n', "mqtt.hsot", "host"),
    "agent check": ("agent.toml", 'device_id = "lga"\ndata_dri = "x"\n', "data_dri", "data_dir"),
    "server run": ("server.toml", "[http]\nprot = 1\n", "http.prot", "port"),
    "server check": ("server.toml", "[retrainin]\ndevices = 1\n", "retrainin", "retraining"),
}


@pytest.mark.parametrize("command", CONFIGS)
def test_an_unknown_key_in_a_configuration_is_named_with_the_one_that_was_meant(
    tmp_path: Path, command: str
) -> None:
    name, text, key, meant = CONFIGS[command]
    config = tmp_path / name
    config.write_text(text)
    done = whimbrel(*command.split(), "--config", config)
    assert done.code == USAGE
    assert f"unknown key '{key}'" in done.err
    assert str(config) in done.err
    assert meant in done.err.split("hint:")[1]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_unknown_variable_and_an_unknown_key_of_a_rollout_are_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('device_id = "lga"\n')
    monkeypatch.setenv("WHIMBREL_AGENT__MQTT__HSOT", "x")
    done = whimbrel("agent", "check", "--config", config)
    assert done.code == USAGE
    assert "WHIMBREL_AGENT__MQTT__HSOT" in done.err or "mqtt.hsot" in done.err
    spec = tmp_path / "rollout.json"
    spec.write_text(json.dumps({"slot": "a", "model": "b", "version": "1.0.0", "gaets": {}}))
    told = whimbrel("fleet", "rollout", "start", "--spec", spec, "--server", "http://127.0.0.1:1")
    assert told.code in {USAGE, INPUT}
    assert "gaets" in told.err
    assert str(spec) in told.err


def test_errors_are_one_object_for_programs(desk: Desk) -> None:
    cut(desk)
    done = whimbrel(*COMMANDS["verify"](desk), "--json")
    assert done.out == ""
    error = json.loads(done.err)["error"]
    assert error["code"].startswith("bundle")
    assert error["retryable"] is False
