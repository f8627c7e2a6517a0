"""The public `model_signing` tool and Whimbrel verify what the other has signed."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.packager.command import Done, whimbrel
from tests.packager.signing.public_tool import tool
from whimbrel_core.bundle import archive, signature
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import TrustError
from whimbrel_core.signing import dsse
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_packager.signing import signers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.packager.conftest import Packed

pytest.importorskip("model_signing")
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


def key_of(curve: str, folder: Path) -> Path:
    """Write a key on a curve; return the private file's path, with the public one beside it."""
    key = PrivateKey(ec.generate_private_key(CURVES[curve]))
    (folder / "k.pem").write_bytes(key.pem())
    (folder / "k.pub").write_text(key.public.pem)
    return folder / "k.pem"


def unpacked(packed: Packed, folder: Path) -> Path:
    """The bundle's files without its signature."""
    with zipfile.ZipFile(packed.bundle) as found:
        found.extractall(folder / "model")
    (folder / "model" / "model.sig").unlink()
    return folder / "model"


def signed_by_the_tool(packed: Packed, folder: Path, curve: str, *options: object) -> Path:
    model = unpacked(packed, folder)
    key = key_of(curve, folder)
    done = tool("sign", "key", model, "--signature", model / "model.sig", "--private_key", key,
                *options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return model


def verify(model: Path, folder: Path, *more: object) -> Done:
    return whimbrel("verify", model, "--key", folder / "k.pub", *more)


@pytest.mark.parametrize("curve", CURVES)
def test_we_verify_what_the_public_tool_signed(packed: Packed, tmp_path: Path, curve: str) -> None:
    model = signed_by_the_tool(packed, tmp_path, curve)
    done = verify(model, tmp_path)
    assert done.code == 0, done.err
    assert "verified: flights 1.0.0, release 1 (unpacked)" in done.out
    # The same signature in a bundle is as good as our own: devices read no more than this.
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    with (tmp_path / "theirs.whim").open("wb") as out:
        archive.write(out, files)
    assert verify(tmp_path / "theirs.whim", tmp_path).code == 0
    (model / "card.md").write_text("another story")
    assert "card.md is not what was signed" in verify(model, tmp_path).err


@pytest.mark.parametrize("curve", CURVES)
def test_the_public_tool_verifies_what_we_signed(
    packed: Packed, tmp_path: Path, curve: str
) -> None:
    model = unpacked(packed, tmp_path)
    signer = signers.load(key_of(curve, tmp_path))
    data = bundles.build({p.name: p.read_bytes() for p in model.iterdir()}, signer)
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        found.extractall(tmp_path / "ours")
    words = ("verify", "key", tmp_path / "ours", "--signature", tmp_path / "ours/model.sig",
             "--public_key", tmp_path / "k.pub")  # fmt: skip
    done = tool(*words)
    assert done.returncode == 0, done.stderr
    (tmp_path / "ours/card.md").write_text("another story")
    assert tool(*words).returncode != 0


def test_what_the_signer_left_out_is_allowed_and_named(packed: Packed, tmp_path: Path) -> None:
    model = unpacked(packed, tmp_path)
    (model / "notes").mkdir()
    (model / "notes" / "todo.txt").write_text("nothing that counts")
    key = key_of("P-256", tmp_path)
    signed = tool("sign", "key", model, "--signature", tmp_path / "apart.sig", "--private_key",
                  key, "--ignore-paths", model / "notes")  # fmt: skip
    assert signed.returncode == 0, signed.stderr
    done = verify(model, tmp_path, "--signature", tmp_path / "apart.sig")
    assert done.code == 0, done.err
    assert "unsigned   notes/todo.txt (the signer left these out)" in done.out
    (model / "extra.txt").write_text("not there when it was signed")
    assert (
        "differing: extra.txt" in verify(model, tmp_path, "--signature", tmp_path / "apart.sig").err
    )


def test_any_other_signed_model_is_verified_and_said_to_be_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "finbert/sub").mkdir(parents=True)
    (tmp_path / "finbert/sub-a").mkdir()
    for name in ("weights.bin", "sub/x", "sub-a/y"):
        (tmp_path / "finbert" / name).write_text(name)
    key = key_of("P-256", tmp_path)
    model = tmp_path / "finbert"
    assert tool("sign", "key", model, "--signature", model / "model.sig", "--private_key",
                key).returncode == 0  # fmt: skip
    done = verify(model, tmp_path)
    assert done.code == 0, done.err
    assert "signed as 'finbert'; it is no bundle" in done.out
    (model / "link").symlink_to(model / "weights.bin")
    assert "is a link" in verify(model, tmp_path).err


def by_library(model: Path, key: Path, hashing: Callable[[Any], Any]) -> None:
    """Sign as the tool's library can, and its command cannot."""
    from model_signing import hashing as theirs
    from model_signing import signing as theirs_too

    config = hashing(theirs.Config())  # type: ignore[no-untyped-call]
    config = config.set_ignored_paths(paths=[model / "model.sig"])
    signing = theirs_too.Config().use_elliptic_key_signer(  # type: ignore[no-untyped-call]
        private_key=key
    )
    signing.set_hashing_config(config).sign(model, model / "model.sig")


@pytest.mark.parametrize(
    ("hashing", "said"),
    [
        (lambda c: c.use_shard_serialization(), "'shards' with 'sha256"),
        (lambda c: c.use_file_serialization(hashing_algorithm="blake2"), "with 'blake2"),
    ],
    ids=["shards", "blake2"],
)
def test_other_ways_of_the_specification_are_refused_by_name(
    packed: Packed, tmp_path: Path, hashing: Callable[[Any], Any], said: str
) -> None:
    model = unpacked(packed, tmp_path)
    by_library(model, key_of("P-256", tmp_path), hashing)
    done = verify(model, tmp_path)
    assert (done.code, said in done.err) == (4, True), done.err
    assert "hint:" in done.err


def test_certificates_and_formats_before_1_are_refused_by_name(
    packed: Packed, tmp_path: Path
) -> None:
    model = signed_by_the_tool(packed, tmp_path, "P-256")
    key = PrivateKey.from_pem((tmp_path / "k.pem").read_bytes())
    found = json.loads((model / "model.sig").read_bytes())
    for kind, value in (("certificate", {"rawBytes": "AA=="}), ("x509CertificateChain", {})):
        spoiled = {**found, "verificationMaterial": {kind: value, "tlogEntries": []}}
        with pytest.raises(TrustError, match="is signed with a certificate") as caught:
            signature.verify(json.dumps(spoiled).encode(), [key.public], what="model")
        assert "model_signing sign key" in str(caught.value.hint)
    statement = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    statement["predicateType"] = "https://model_signing/Digests/v0.1"
    envelope = dsse.sign(json.dumps(statement).encode(), signature.PAYLOAD_TYPE, key)
    signed = {"payload": envelope.payload, "payloadType": envelope.payload_type,
              "signatures": [{"sig": envelope.signatures[0].sig}]}  # fmt: skip
    old = {**found, "dsseEnvelope": signed}
    with pytest.raises(TrustError, match=r"signed as 'https://model_signing/Digests/v0\.1'"):
        signature.verify(json.dumps(old).encode(), [key.public], what="model")


def test_a_key_on_p_521_is_refused_by_name(packed: Packed, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "k.pub").write_bytes(pem)
    done = verify(packed.bundle, tmp_path)
    assert done.code == 4
    assert "P-256 or P-384 is needed" in done.err


def test_verify_wants_something_to_trust(packed: Packed) -> None:
    done = whimbrel("verify", packed.bundle)
    assert done.code == 2
    assert "no key to trust was given" in done.err
