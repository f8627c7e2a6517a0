"""The repository as the server sees it: verified, watched, and signed online."""

from __future__ import annotations

import fcntl
import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.house import House, build_house
from whimbrel_core.errors import StorageError, TrustError, UsageError
from whimbrel_server.repository import Repository
from whimbrel_server.repository.chain import newest
from whimbrel_server.repository.keys import load_signer
from whimbrel_server.repository.online import OnlineRoles

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)


@pytest.fixture
def repository(house: House) -> Repository:
    return Repository(house.repository.directory)


def roles(house: House) -> OnlineRoles:
    return OnlineRoles(
        house.repository.directory,
        load_signer((house.online / "snapshot.pem").read_bytes()),
        load_signer((house.online / "timestamp.pem").read_bytes()),
    )


def test_new_bundles_appear_at_the_next_look(house: House, repository: Repository) -> None:
    repository.reload()
    assert repository.published() == ()
    made = house.publish("1.0.0")
    assert repository.reload()
    assert not repository.reload()
    (one,) = repository.published()
    assert (one.name, one.version, one.digest, one.problem) == ("churn", "1.0.0", made.digest, "")
    assert repository.get(made.digest) == one.__class__(
        **{name: getattr(one, name) for name in one.__struct_fields__}
    )
    assert repository.contents(made.digest).baseline.profile_id == made.baseline.profile_id
    with pytest.raises(UsageError, match=r"published are 1\.0\.0"):
        repository.find("churn", "2.0.0")
    with pytest.raises(UsageError, match="no version is published"):
        repository.find("flights", "1.0.0")


def test_a_tampered_bundle_is_named_and_not_used(house: House, repository: Repository) -> None:
    made = house.publish("1.0.0")
    file = next((house.repository.directory / "targets" / "bundles" / "churn").iterdir())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    repository.reload()
    (one,) = repository.published()
    assert one.problem
    with pytest.raises(Exception, match=r"churn"):
        repository.find("churn", "1.0.0")
    # It may have been repaired since: another look at other metadata forgets the verdict.
    shutil.copy(made.path, file)
    house.publish("1.1.0")
    repository.reload()
    assert [one.problem for one in repository.published()] == ["", ""]


def test_metadata_of_another_publisher_is_refused_and_the_old_still_stands(
    house: House, repository: Repository, tmp_path: Path
) -> None:
    house.publish("1.0.0")
    repository.reload()
    stranger = build_house(tmp_path / "stranger")
    stranger.publish("9.9.9")
    stranger.publish("9.9.10")
    forged = stranger.repository.directory / "metadata" / "3.targets.json"
    shutil.copy(forged, house.repository.directory / "metadata" / "3.targets.json")
    with pytest.raises(TrustError, match="targets metadata does not verify"):
        repository.reload()
    assert [one.version for one in repository.published()] == ["1.0.0"]
    with pytest.raises(TrustError):
        roles(house).refresh(NOW)


def test_a_folder_that_is_no_repository_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        Repository(tmp_path / "nowhere").reload()
    assert "repo init" in str(caught.value.hint)
    (tmp_path / "empty" / "metadata").mkdir(parents=True)
    with pytest.raises(TrustError, match=r"1\.root\.json"):
        Repository(tmp_path / "empty").reload()


def test_the_server_signs_new_targets_and_what_will_expire(house: House) -> None:
    online = roles(house)
    assert online.refresh(NOW) == ()
    house.publish("1.0.0", online=False)
    assert online.refresh(NOW) == ("2.snapshot.json", "timestamp.json")
    assert online.refresh(NOW) == ()
    assert online.refresh(NOW + timedelta(hours=13)) == ("timestamp.json",)
    assert online.refresh(NOW + timedelta(days=4)) == ("3.snapshot.json", "timestamp.json")
    assert newest(house.repository.directory, "snapshot") == 3


def test_devices_can_follow_what_the_server_signed(house: House, tmp_path: Path) -> None:
    from tuf.ngclient import Updater  # type: ignore[attr-defined]  # public, not listed
    from tuf.ngclient.fetcher import FetcherInterface

    class Folder(FetcherInterface):
        def _fetch(self, url: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            from tuf.api.exceptions import DownloadHTTPError

            file = house.repository.directory / url.removeprefix("http://repository/")
            if not file.is_file():
                raise DownloadHTTPError("no such file", 404)
            yield file.read_bytes()

    house.publish("1.0.0", online=False)
    roles(house).refresh(NOW)
    updater = Updater(
        metadata_dir=str(tmp_path / "tuf"),
        metadata_base_url="http://repository/metadata/",
        target_dir=str(tmp_path),
        target_base_url="http://repository/targets/",
        fetcher=Folder(),
        bootstrap=(house.repository.directory / "metadata" / "1.root.json").read_bytes(),
    )
    updater.refresh()
    assert updater.get_targetinfo("bundles/churn/churn-1.0.0.whim") is not None


def test_while_somebody_publishes_the_server_waits(house: House) -> None:
    house.publish("1.0.0", online=False)
    lock = os.open(house.repository.directory / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    online = roles(house)
    assert online.refresh(NOW) == ()
    os.close(lock)
    assert online.refresh(NOW) != ()


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(TrustError):
        load_signer(b"not a key")
