"""Vault's transit engine, by a real server of its protocol: OpenBao."""

from __future__ import annotations

import io
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.ports import free_port
from tests.support.waiting import until
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import TrustError
from whimbrel_packager.signing import keyfiles, signers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hvac import Client  # type: ignore[import-untyped]  # it has no types

    from tests.packager.conftest import Packed

pytestmark = pytest.mark.needs("bao")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server in memory, with the transit engine."""
    hvac = pytest.importorskip("hvac")
    address = f"127.0.0.1:{free_port()}"
    home = tmp_path_factory.mktemp("bao")
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            ["bao", "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root",
             f"-dev-listen-address={address}"],
            stdout=log,
            stderr=log,
            env=os.environ | {"HOME": str(home)},
        )  # fmt: skip
    os.environ |= {"VAULT_ADDR": f"http://{address}", "VAULT_TOKEN": "root"}
    try:
        client = hvac.Client()

        def ready() -> bool:
            try:
                return bool(client.sys.is_initialized() and not client.sys.is_sealed())
            except Exception:  # noqa: BLE001 - whatever it raises while nobody listens
                return False

        until(ready, "the server to be ready")
        client.sys.enable_secrets_engine("transit")
        yield client
    finally:
        server.terminate()
        server.wait()
        del os.environ["VAULT_ADDR"], os.environ["VAULT_TOKEN"]


def test_a_key_in_vault_signs_a_bundle_each_version_its_own(vault: Client, packed: Packed) -> None:
    vault.secrets.transit.create_key("bundle", key_type="ecdsa-p256")
    first = signers.load("hv:bundle")
    vault.secrets.transit.rotate_key("bundle")
    second = signers.load("hv:bundle")
    assert first.public.id == signers.load("hv:bundle/1").public.id != second.public.id
    opened = bundles.open_bundle(io.BytesIO(packed.content), [keyfiles.public(packed.key)])
    files = {name: opened.read(name) for name in opened.names}
    for signer in (first, second):
        data = bundles.build(files, signer)
        assert bundles.open_bundle(io.BytesIO(data), [signer.public]).key_id == signer.public.id


@pytest.mark.parametrize(
    ("kind", "said"),
    [("ed25519", "of type ed25519"), ("ecdsa-p384", "of type ecdsa-p384"), ("", "cannot be used")],
)
def test_a_key_that_vault_has_of_another_type_or_not_at_all_is_refused(
    vault: Client, kind: str, said: str
) -> None:
    if kind:
        vault.secrets.transit.create_key(kind, key_type=kind)
    with pytest.raises(TrustError, match=said):
        signers.load(f"hv:{kind or 'nobody'}")


def test_a_token_that_may_not_sign_is_said(
    vault: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault.secrets.transit.create_key("mine", key_type="ecdsa-p256")
    monkeypatch.setenv("VAULT_TOKEN", "another")
    with pytest.raises(TrustError, match="Forbidden"):
        signers.load("hv:mine")
