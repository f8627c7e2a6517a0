from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from tests.packager.command import whimbrel
from whimbrel_packager import commands
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from tests.packager.conftest import Packed


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in commands.__all__:
        command = getattr(commands, name)
        subs = list(command.commands) if isinstance(command, click.Group) else [None]
        found += [(name, sub) if sub else (name,) for sub in subs]
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    done = whimbrel(*words, "--help")
    assert done.code == 0
    assert f"Example: whimbrel {' '.join(words)}" in " ".join(done.out.split())
    assert (
        "--json" in done.out or "--format [" in done.out
    )  # what only writes formats has JSON there


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from whimbrel_core.cli import main; main(['pack', '--help']);"
        "print([m for m in ('numpy', 'sklearn', 'onnx', 'tuf', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_verify_names_what_is_signed_and_by_whom(packed: Packed) -> None:
    key = packed.key.with_suffix(".pub")
    done = whimbrel("verify", packed.bundle, "--key", key)
    assert done.code == 0
    assert "verified: flights 1.0.0, release 1" in done.out
    assert f"signed by  {key}" in done.out
    told = json.loads(whimbrel("verify", packed.bundle, "--key", key, "--json").out)
    assert told["digest"] == packed.result["digest"]
    assert told["key_id"] == keyfiles.public(key).id


def test_a_renamed_bundle_is_still_the_same_bundle(packed: Packed, tmp_path: Path) -> None:
    renamed = tmp_path / "weather-9.9.9.whim"
    shutil.copy(packed.bundle, renamed)
    done = whimbrel("verify", renamed, "--key", packed.key)
    assert "verified: flights 1.0.0" in done.out
    assert "its name is not signed" in done.out


def test_a_wrong_key_does_not_verify(packed: Packed, tmp_path: Path) -> None:
    keyfiles.create(tmp_path, "other")
    done = whimbrel("verify", packed.bundle, "--key", tmp_path / "other.pub")
    assert (done.code, done.out) == (4, "")
    assert "no trusted key verifies the signature" in done.err
    assert "hint:" in done.err
    told = json.loads(
        whimbrel("verify", packed.bundle, "--key", tmp_path / "other.pub", "--json").err
    )
    assert told["error"]["code"] == "trust.signature"


@pytest.mark.parametrize("member", ["model.onnx", "manifest.json", "parity.npz", "baseline.bin"])
def test_a_tampered_file_is_named(packed: Packed, tmp_path: Path, member: str) -> None:
    bad = tmp_path / "bad.whim"
    with zipfile.ZipFile(packed.bundle) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data[:-1] + bytes([data[-1] ^ 1]) if name == member else data)
    done = whimbrel("verify", bad, "--key", packed.key)
    assert done.code == 4
    assert f"{member} is not what was signed" in done.err


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_a_truncated_bundle_is_bad_input(packed: Packed, tmp_path: Path, kept: int) -> None:
    bad = tmp_path / "bad.whim"
    bad.write_bytes(packed.content[:kept])
    for words in (("verify", bad, "--key", packed.key), ("inspect", bad)):
        done = whimbrel(*words)
        assert done.code == 3
        assert "not a bundle, or cut short" in done.err


def test_inspect_needs_no_key_and_says_that_nothing_is_verified(packed: Packed) -> None:
    done = whimbrel("inspect", packed.bundle)
    assert done.out.startswith("NOT VERIFIED")
    assert "flights 1.0.0, release 1, classification" in done.out
    assert "temp FP32" in done.out
    told = json.loads(whimbrel("inspect", packed.bundle, "--json").out)
    assert told["verified"] is False
    assert told["manifest"]["name"] == "flights"


def test_keys_are_made_once_private_and_shown(tmp_path: Path) -> None:
    done = whimbrel("keys", "new", "bundle", "--dir", tmp_path, "--json")
    told = json.loads(done.out)
    assert stat.S_IMODE(Path(told["private"]).stat().st_mode) == 0o600
    for file in (told["private"], told["public"]):
        shown = json.loads(whimbrel("keys", "show", file, "--json").out)
        assert shown["id"] == told["id"]
        assert "PRIVATE" not in shown["pem"]
    again = whimbrel("keys", "new", "bundle", "--dir", tmp_path)
    assert again.code == 2
    assert "it was not touched" in again.err


def test_an_encrypted_key_needs_its_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    words = ("keys", "new", "safe", "--dir", tmp_path, "--password-file", tmp_path / "password")
    assert whimbrel(*words).code == 0
    assert b"ENCRYPTED" in (tmp_path / "safe.pem").read_bytes()
    key = keyfiles.private(tmp_path / "safe.pem", tmp_path / "password")
    assert key.public.id == keyfiles.public(tmp_path / "safe.pub").id
    shown = whimbrel(
        "keys", "show", tmp_path / "safe.pem", "--password-file", tmp_path / "password"
    )
    assert key.public.id in shown.out
    refused = whimbrel("keys", "show", tmp_path / "safe.pem")
    assert refused.code == 4
    assert "encrypted" in refused.err


def test_a_public_key_does_not_sign(packed: Packed, tmp_path: Path) -> None:
    done = whimbrel(
        "pack", packed.model, "--name", "f", "--version", "1.0.0", "--reference", packed.data,
        "--key", packed.key.with_suffix(".pub"), "--out", tmp_path, "--allow-pickle",
    )  # fmt: skip
    assert done.code == 4
    assert "is a public key, a private one is needed to sign" in done.err
    assert "hint:  give bundle.pem" in done.err
