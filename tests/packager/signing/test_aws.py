"""AWS KMS, by boto3 over HTTP, with a stand-in for the service (moto), which really signs.

It does not know ``MessageType=DIGEST`` (it says so), and would digest the digest: here it is
taught to. That the real service accepts what is sent, this does not show.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.packager.command import whimbrel
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import TrustError, UnavailableError
from whimbrel_packager.signing import keyfiles, signers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.packager.conftest import Packed

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def kms(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - boto3's client
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client("kms")


def make_key(kms: Any, alias: str, kind: str = "ECC_NIST_P256") -> str:  # noqa: ANN401 - as above
    key = kms.create_key(KeySpec=kind, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=key)
    return str(key)


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stand-in sign digests as they are."""
    from moto.kms import utils

    known = {32: hashes.SHA256(), 48: hashes.SHA384()}

    def sign(key: Any, message: bytes, _algorithm: str) -> bytes:  # noqa: ANN401 - moto's key
        signature: bytes = key.private_key.sign(message, ec.ECDSA(Prehashed(known[len(message)])))
        return signature

    monkeypatch.setattr(utils.ECDSAPrivateKey, "sign", sign)


@pytest.mark.usefixtures("digests")
@pytest.mark.parametrize("kind", ["ECC_NIST_P256", "ECC_NIST_P384"])
def test_a_key_in_kms_signs_a_bundle(
    kms: object, packed: Packed, tmp_path: Path, kind: str
) -> None:
    make_key(kms, kind, kind)
    done = whimbrel("keys", "import", "bundle", f"awskms:alias/{kind}", "--dir", tmp_path)
    assert done.code == 0, done.err
    opened = bundles.open_bundle(io.BytesIO(packed.content), [keyfiles.public(packed.key)])
    files = {name: opened.read(name) for name in opened.names}
    data = bundles.build(files, signers.load(tmp_path / "bundle.uri"))
    key = keyfiles.public(tmp_path / "bundle.pub")
    assert bundles.open_bundle(io.BytesIO(data), [key]).key_id == key.id


def test_a_service_that_signs_something_else_is_found_out(kms: object) -> None:
    make_key(kms, "other")
    with pytest.raises(TrustError, match="its public key does not verify; nothing was signed"):
        signers.load("awskms:alias/other").sign(b"this")


def test_no_such_key_and_a_key_of_another_kind_are_said(kms: object) -> None:
    with pytest.raises(TrustError, match="NotFound"):
        signers.load("awskms:alias/nobody")
    make_key(kms, "rsa", "RSA_2048")
    with pytest.raises(TrustError, match="an EC key on P-256 or P-384 is needed"):
        signers.load("awskms:alias/rsa")


def test_nobody_who_answers_is_unavailable(kms: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="does not answer"):
        signers.load("awskms:alias/bundle")
