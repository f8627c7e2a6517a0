"""New roots that are uploaded, or found in the directory, are followed; bad ones change nothing."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.founded import founded
from whimbrel_core.errors import TrustError
from whimbrel_packager.repository import trusted
from whimbrel_packager.repository.metadata import Lives
from whimbrel_packager.repository.repository import Repository as Publishers
from whimbrel_packager.signing import keyfiles
from whimbrel_packager.signing.keyring import Keyring
from whimbrel_server.repository import Repository
from whimbrel_server.repository.acceptance import Acceptance
from whimbrel_server.repository.incoming import Incoming
from whimbrel_server.repository.keys import load_signer
from whimbrel_server.repository.online import OnlineRoles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.house import House
    from whimbrel_packager.repository.trusted import Named

NOW = datetime.now(UTC)


def next_root(house: House, folder: Path, role: str, *, revoke: bool) -> bytes:
    """The root that the publisher signed on another machine, with a new key for a role."""
    copy = Publishers(shutil.copytree(house.repository.directory, folder / "copy"))
    new: Named = trusted.Named(keyfiles.create(folder / "new", role)[0].public.pem)
    mine = [one.key_id for one in trusted.holders(copy) if one.role == role]
    ring = Keyring(folders=[house.keys, folder / "new"])
    copy.carry_out(
        lambda: trusted.change(
            copy, role, add=[new], revoke=mine if revoke else [], now=NOW, lives=Lives()
        ),
        ring,
        now=NOW,
        online=Keyring(folders=[house.online, folder / "new"]),
    )
    return (copy.metadata / "2.root.json").read_bytes()


def upload(house: House, data: bytes, name: str = "2.root.json") -> None:
    directory = house.repository.directory
    Acceptance(directory, Incoming(directory, limit_bytes=1 << 30)).accept(
        name, data, NOW, lambda _accepted: None
    )


def test_a_root_that_is_uploaded_is_followed(house: House, tmp_path: Path) -> None:
    house.publish("1.0.0")
    view = Repository(house.repository.directory)
    view.reload()
    upload(house, next_root(house, tmp_path, "targets", revoke=False))
    assert view.reload()
    assert [one.version for one in view.published()] == ["1.0.0"]
    house.publish("1.1.0")
    view.reload()
    assert len(view.published()) == 2


def test_a_root_under_which_targets_would_not_hold_is_refused(house: House, tmp_path: Path) -> None:
    house.publish("1.0.0")
    data = next_root(house, tmp_path, "targets", revoke=True)
    with pytest.raises(TrustError, match="targets metadata does not verify"):
        upload(house, data)
    assert not (house.repository.directory / "metadata" / "2.root.json").exists()


def test_a_root_of_somebody_else_is_refused(house: House, tmp_path: Path) -> None:
    other = founded(tmp_path / "r", tmp_path / "k", tmp_path / "o", now=NOW)
    ring = Keyring(folders=[tmp_path / "k"])
    other.carry_out(lambda: trusted.change(other, "root", now=NOW, lives=Lives()), ring, now=NOW)
    with pytest.raises(TrustError, match="root metadata does not verify"):
        upload(house, (other.metadata / "2.root.json").read_bytes())


def test_the_server_signs_again_with_the_key_that_a_new_root_names(
    house: House, tmp_path: Path
) -> None:
    house.publish("1.0.0")
    directory = house.repository.directory
    old = OnlineRoles(
        directory,
        load_signer((house.online / "snapshot.pem").read_bytes()),
        load_signer((house.online / "timestamp.pem").read_bytes()),
    )
    old.refresh(NOW)
    (directory / "metadata" / "2.root.json").write_bytes(
        next_root(house, tmp_path, "timestamp", revoke=True)
    )
    with pytest.raises(TrustError, match="is not the one that root version 2 names"):
        old.refresh(NOW)
    new = OnlineRoles(
        directory,
        load_signer((house.online / "snapshot.pem").read_bytes()),
        load_signer((tmp_path / "new" / "timestamp.pem").read_bytes()),
    )
    before = house.repository.newest("timestamp")
    assert new.refresh(NOW) == ("timestamp.json",)
    assert house.repository.newest("timestamp") == before + 1
    assert not house.repository.status().waiting
    assert new.refresh(NOW + timedelta(seconds=1)) == ()
