"""Keys that are elsewhere sign as key files do: on a token, in Vault, by anybody's signer."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.signer import (  # type: ignore[attr-defined]  # public, not listed
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
)

from tests.packager.command import whimbrel
from tests.packager.signing.public_tool import tool
from tests.support.founded import founded
from tests.support.softhsm import PIN, Token
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import TrustError, UnavailableError, UsageError
from whimbrel_core.signing.keys import PrivateKey, PublicKey
from whimbrel_packager.repository.repository import Repository
from whimbrel_packager.signing import hsm, keyfiles, signers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.packager.conftest import Packed


def signed_again(packed: Packed, where: str | Path) -> tuple[bytes, PublicKey]:
    """The bundle, signed by another key."""
    signer = signers.load(where)
    opened = bundles.open_bundle(io.BytesIO(packed.content), [keyfiles.public(packed.key)])
    files = {name: opened.read(name) for name in opened.names}
    return bundles.build(files, signer), signer.public


def test_a_key_on_a_token_packs_a_bundle_that_everybody_verifies(
    packed: Packed, token: Token, tmp_path: Path
) -> None:
    done = whimbrel(
        "pack", packed.model, "--name", "flights", "--version", "2.0.0", "--reference",
        packed.data, "--label", "late", "--key", token.uri("bundle"), "--out", tmp_path,
        "--allow-pickle",
    )  # fmt: skip
    assert done.code == 0, done.err
    imported = whimbrel("keys", "import", "bundle", token.uri("bundle"), "--dir", tmp_path)
    assert imported.code == 0, imported.err
    verified = whimbrel("verify", tmp_path / "flights-2.0.0.whim", "--key", tmp_path / "bundle.pub")
    assert verified.code == 0, verified.err


def test_the_public_tool_accepts_what_a_token_signed(
    packed: Packed, token: Token, tmp_path: Path
) -> None:
    pytest.importorskip("model_signing")
    data, key = signed_again(packed, token.uri("bundle"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "bundle.pub").write_text(key.pem)
    folder = tmp_path / "unpacked"
    done = tool("verify", "key", folder, "--signature", folder / "model.sig", "--public_key",
                tmp_path / "bundle.pub")  # fmt: skip
    assert done.returncode == 0, done.stderr


def _key(folder: Path) -> Path:
    return keyfiles.create(folder / "more", "bundle")[1]


def _trust_too(folder: Path) -> None:
    done = whimbrel("repo", "add-key", "bundle", "--dir", folder / "r", "--new",
                    folder / "more/bundle.pub", "--keys", folder / "keys")  # fmt: skip
    assert done.code == 0, done.err


def test_a_repository_whose_targets_key_is_on_a_token_is_published_to(
    packed: Packed, token: Token, tmp_path: Path
) -> None:
    keys, online = tmp_path / "keys", tmp_path / "online"
    for name in ("bundle", "targets"):
        done = whimbrel("keys", "import", name, token.uri(name), "--dir", keys)
        assert done.code == 0, done.err
    made = whimbrel(
        "repo", "init", "--dir", tmp_path / "r", "--keys", keys, "--online-keys", online
    )
    assert made.code == 0, made.err
    assert not (keys / "targets.pem").exists()
    (tmp_path / "b.whim").write_bytes(signed_again(packed, keys / "bundle.uri")[0])
    done = whimbrel("publish", tmp_path / "b.whim", "--repo", tmp_path / "r", "--keys", keys,
                    "--online-keys", online)  # fmt: skip
    assert done.code == 0, done.err
    (tmp_path / "c.whim").write_bytes(packed.again("1.1.0", 2, _key(tmp_path)))
    _trust_too(tmp_path)
    alone = whimbrel("publish", tmp_path / "c.whim", "--repo", tmp_path / "r", "--key",
                     token.uri("targets"))  # fmt: skip
    assert alone.code == 0, alone.err
    root = Repository(tmp_path / "r").root()
    (keyid,) = root.roles["targets"].keyids
    assert root.keys[keyid].keyval["public"] == keyfiles.public(keys / "targets.pub").pem


def test_a_key_is_made_on_the_token_and_never_twice(token: Token, tmp_path: Path) -> None:
    words = ("keys", "new", "fresh", "--dir", tmp_path, "--token", token.uri("fresh", pin=False),
             "--password-file", token.pin)  # fmt: skip
    done = whimbrel(*words, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert "PRIVATE" not in "".join(path.read_text() for path in tmp_path.iterdir())
    shown = whimbrel("keys", "show", token.uri("fresh"), "--json")
    assert json.loads(shown.out)["id"] == told["id"]
    assert "it was not touched" in whimbrel(*words).err
    (tmp_path / "fresh.uri").unlink()
    again = whimbrel(*words)
    assert again.code == 2
    assert "there is a key fresh" in again.err


BAD_KEYS: dict[str, tuple[Callable[[Token], str], int, str]] = {
    "no token": (lambda t: t.uri("bundle", token="lost"), 2, "there is no token 'lost'"),
    "no key": (lambda t: t.uri("nobody"), 2, "has no private EC key nobody"),
    "no module": (lambda t: f"pkcs11:object=b?module-path={t.pin}.so&pin-source={t.pin}", 2,
                  "is not there"),
    "no library": (lambda t: f"pkcs11:object=b?module-path={t.pin}&pin-source={t.pin}", 4,
                   "cannot be used"),
    "nobody to ask": (lambda t: t.uri("bundle", pin=False), 2, "there is nobody to ask"),
    "a PIN for all to see": (lambda t: t.uri("bundle", pin=False) + "&pin-value=5678", 2,
                             "is seen by everybody"),
    "an unknown part": (lambda t: t.uri("bundle").replace("object=", "serial="), 2,
                        "serial= is not understood"),
    "no scheme": (lambda _: "smartcard:bundle", 2, "schemes are"),
    "no number": (lambda t: f"hsm:bundle?module-path={t.module}", 2, "comes the key's number"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_key_that_cannot_sign_is_named_and_nothing_is_written(
    packed: Packed, token: Token, tmp_path: Path, case: str
) -> None:
    uri, code, said = BAD_KEYS[case]
    done = whimbrel(
        "pack", packed.model, "--name", "f", "--version", "1.0.0", "--reference", packed.data,
        "--key", uri(token), "--out", tmp_path / "out", "--allow-pickle",
    )  # fmt: skip
    assert (done.code, said in done.err) == (code, True), done.err
    assert "hint:" in done.err
    assert PIN not in done.err
    assert not (tmp_path / "out").exists()


def test_securesystemslibs_own_uri_leads_to_the_same_key(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = signers.public(token.uri("bundle"))
    number = hsm.signer(hsm.parse(token.uri("bundle")), key, hsm.Pin(token.pin)).hsm_keyid
    monkeypatch.setenv("PYKCS11LIB", token.module)
    signer = signers.load(f"hsm:{number}?label={token.label}", token.pin)
    assert signer.public.id == key.id
    assert key.verifies(signer.sign(b"this"), b"this")


def test_an_encrypted_root_founds_a_repository(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    for name in ("root", "targets", "bundle"):
        keyfiles.create(tmp_path / "keys", name, b"correct horse")
    words = ("repo", "init", "--dir", tmp_path / "r", "--keys", tmp_path / "keys",
             "--online-keys", tmp_path / "online")  # fmt: skip
    refused = whimbrel(*words)
    assert refused.code == 4
    assert "give --password-file" in refused.err
    assert not Repository(tmp_path / "r").newest("root")
    done = whimbrel(*words, "--password-file", tmp_path / "password")
    assert done.code == 0, done.err
    again = whimbrel("repo", "refresh", "--dir", tmp_path / "r", "--keys", tmp_path / "keys",
                     "--password-file", tmp_path / "password")  # fmt: skip
    assert again.code == 0, again.err


def test_a_wrong_pin_is_tried_once(token: Token, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("0000")
    with pytest.raises(TrustError, match="the PIN is wrong") as caught:
        signers.load(token.uri("bundle", pin=False), tmp_path / "pin")
    assert caught.value.code == "trust.pin"
    assert signers.load(token.uri("bundle")).public.pem  # it has not locked itself


def test_a_public_half_of_another_key_is_noticed(token: Token, tmp_path: Path) -> None:
    keyfiles.write_uri(tmp_path, "bundle", token.uri("bundle"), PrivateKey.generate().public)
    with pytest.raises(TrustError, match=r"the \.pub file beside it says"):
        signers.load(tmp_path / "bundle.uri")


def test_a_service_that_is_not_installed_is_said_with_its_extra() -> None:
    with pytest.raises(UsageError, match="is not installed") as caught:
        signers.load("azurekms://vault.example/keys/bundle/1")
    assert "whimbrel-packager[azure]" in str(caught.value.hint)
    with pytest.raises(UsageError, match="is not of the form azurekms://"):
        signers.load("azurekms:bundle")


class OwnSigner(Signer):
    """Anybody's signer, registered with securesystemslib; answers with raw or DER signatures."""

    raw = False
    spoiled = False
    key = ec.generate_private_key(ec.SECP256R1())

    def __init__(self, public: Key) -> None:
        self._public = public

    @property
    def public_key(self) -> Key:
        return self._public

    @classmethod
    def import_(cls, _where: str) -> tuple[str, SSlibKey]:
        return "own:1", SSlibKey.from_crypto(cls.key.public_key())

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> OwnSigner:
        return cls(public_key)

    def sign(self, payload: bytes) -> Signature:
        signature = self.key.sign(payload, ec.ECDSA(hashes.SHA256()))
        if self.raw:
            signature = b"".join(n.to_bytes(32) for n in decode_dss_signature(signature))
        if self.spoiled:
            signature = bytes(len(signature))
        return Signature(self.public_key.keyid, signature.hex())


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> type[OwnSigner]:
    class Own(OwnSigner):
        pass

    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "own", Own)
    return Own


@pytest.mark.parametrize("raw", [False, True], ids=["DER", "raw"])
def test_any_signer_of_securesystemslib_signs(
    packed: Packed, own: type[OwnSigner], raw: bool
) -> None:
    own.raw = raw
    data, key = signed_again(packed, "own:1")
    assert bundles.open_bundle(io.BytesIO(data), [key]).key_id == key.id


def test_a_signature_that_is_none_is_not_used(packed: Packed, own: type[OwnSigner]) -> None:
    own.spoiled = True
    with pytest.raises(TrustError, match="its public key does not verify"):
        signed_again(packed, "own:1")


def test_an_ed25519_key_is_refused_by_name(
    own: type[OwnSigner], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CryptoSigner.generate_ed25519().public_key
    monkeypatch.setattr(own, "import_", lambda _where: ("own:1", other))
    with pytest.raises(TrustError, match="key for ed25519, an EC key on P-256 or P-384 is needed"):
        signers.load("own:1")


def test_nobody_who_answers_is_unavailable_not_untrusted(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hvac")
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:9")
    monkeypatch.setenv("VAULT_TOKEN", "t")
    with pytest.raises(UnavailableError, match=r"hv:bundle: whoever holds the key does not answer"):
        signers.load("hv:bundle")


def test_publishing_with_a_wrong_pin_changes_nothing(
    packed: Packed, token: Token, tmp_path: Path
) -> None:
    keys, online = tmp_path / "keys", tmp_path / "online"
    (tmp_path / "pin").write_text(PIN)
    uri = token.uri("targets", pin=False) + f"&pin-source={tmp_path / 'pin'}"
    assert whimbrel("keys", "import", "targets", uri, "--dir", keys).code == 0
    repo = founded(tmp_path / "r", keys, online, now=datetime.now(UTC))
    (tmp_path / "b.whim").write_bytes(signed_again(packed, keys / "bundle.pem")[0])
    before = sorted(path for path in repo.directory.rglob("*"))
    (tmp_path / "pin").write_text("0000")
    done = whimbrel("publish", tmp_path / "b.whim", "--repo", repo.directory, "--keys", keys)
    assert done.code == 4, done.err
    assert "the PIN is wrong" in done.err
    assert sorted(path for path in repo.directory.rglob("*")) == before
    assert msgspec.json.decode(repo.read("trust/fleet.json"))
