"""The updater: what holds is brought, what does not is refused, and nothing is half-done."""

from __future__ import annotations

import datetime as dt
import errno
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.support.fileserver import FileServer
from tests.support.models import MadeBundle, build_bundle, logistic
from tests.support.repository import RepositorySimulator
from whimbrel_agent.paths import DataDirectory
from whimbrel_agent.update import download, updater
from whimbrel_agent.update.folder_transport import FolderTransport
from whimbrel_agent.update.garbage import collect
from whimbrel_agent.update.messages import Updated, UpdateRequest, Wanted
from whimbrel_agent.update.metering import Metered, take_tally
from whimbrel_agent.update.repository_address import transport
from whimbrel_core.errors import (
    CompatibilityError,
    InputError,
    StorageError,
    TrustError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Device:
    """A data directory that knows a repository's root."""

    def __init__(self, folder: Path, repository: RepositorySimulator) -> None:
        self.home = DataDirectory(folder)
        self.home.create()
        self.home.root_json.write_bytes(repository.root_json)
        self.repository = repository
        self.url = str(repository.folder)

    def update(self, made: MadeBundle | None, **more: object) -> Updated:
        wanted = None
        if made is not None:
            path = f"bundles/{made.manifest.name}/{made.manifest.title}.whim"
            wanted = Wanted(path, made.digest, made.path.stat().st_size)
        request = msgspec.structs.replace(
            UpdateRequest(self.url, str(self.home.root), wanted), **more
        )
        source = Metered(transport(self.url, timeout_s=5), self.home.tally)
        try:
            return updater.update(request, self.home, source)
        finally:
            source.close()

    def hold(self, made: MadeBundle) -> None:
        """Put a proven bundle into the store."""
        self.home.bundle(made.digest).write_bytes(made.path.read_bytes())

    def fetched(self, made: MadeBundle) -> bool:
        return self.home.fetched(made.digest).read_bytes() == made.path.read_bytes()

    def left(self) -> list[str]:
        """Return what lies in downloads."""
        return sorted(path.name for path in self.home.downloads.iterdir())


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[MadeBundle]:
    folder = tmp_path_factory.mktemp("bundles")
    first = build_bundle(folder, version="1.0.0", release=1)
    return [
        first,
        build_bundle(folder, logistic(seed=1), version="1.1.0", release=2, key=first.key),
    ]


@pytest.fixture
def repository(tmp_path: Path, bundles: list[MadeBundle]) -> RepositorySimulator:
    found = RepositorySimulator(tmp_path / "repository", bundles[0].key)
    found.publish(bundles[0])
    found.publish(bundles[1], delta_from=bundles[0])
    return found


@pytest.fixture
def device(tmp_path: Path, repository: RepositorySimulator) -> Device:
    return Device(tmp_path / "data", repository)


@pytest.fixture
def server(repository: RepositorySimulator, device: Device) -> Iterator[FileServer]:
    found = FileServer(repository.folder)
    device.url = found.url
    yield found
    found.close()


def test_a_root_alone_is_enough_to_trust_publishers_and_fleet(device: Device) -> None:
    done = device.update(None)
    assert (done.source, done.trust_changed) == ("none", True)
    assert device.home.publishers_json.exists()
    assert device.home.fleet_json.exists()
    assert not device.update(None).trust_changed


def test_a_bundle_is_brought_whole_from_a_folder(device: Device, bundles: list[MadeBundle]) -> None:
    done = device.update(bundles[0])
    assert (done.source, done.name, done.version, done.release) == ("full", "churn", "1.0.0", 1)
    assert device.fetched(bundles[0])
    assert device.update(bundles[0]).source == "store"


def test_a_delta_is_taken_from_a_version_that_is_held(
    device: Device, server: FileServer, bundles: list[MadeBundle]
) -> None:
    device.hold(bundles[0])
    done = device.update(bundles[1], held=(bundles[0].digest,))
    assert done.source == "delta"
    assert device.fetched(bundles[1])
    assert done.bytes_downloaded == server.sent
    assert server.served < bundles[1].path.stat().st_size


def test_a_delta_that_makes_something_else_is_given_up_for_the_whole_file(
    device: Device, repository: RepositorySimulator, bundles: list[MadeBundle]
) -> None:
    repository.publish(bundles[1], delta_from=bundles[0], spoil_delta=True)
    device.hold(bundles[0])
    done = device.update(bundles[1], held=(bundles[0].digest,))
    assert done.source == "full"
    assert device.fetched(bundles[1])


def test_a_broken_download_goes_on_where_it_stopped(
    device: Device, server: FileServer, bundles: list[MadeBundle]
) -> None:
    server.cut_after = [20_000, 10_000]
    for have in (20_000, 30_000):
        with pytest.raises(UnavailableError) as caught:
            device.update(bundles[0])
        assert caught.value.retryable
        assert device.home.part(bundles[0].digest).stat().st_size == have
    device.update(bundles[0])
    assert device.fetched(bundles[0])
    blobs = [offset for path, offset in server.requests if "bundles" in path]
    assert blobs == [0, 20_000, 30_000]


def test_what_failed_is_counted_as_what_succeeded(
    device: Device, server: FileServer, bundles: list[MadeBundle]
) -> None:
    server.cut_after = [20_000]
    with pytest.raises(UnavailableError):
        device.update(bundles[0])
    assert take_tally(device.home.tally) == server.sent > 20_000
    assert take_tally(device.home.tally) == 0  # taken once
    sent = server.sent
    device.update(bundles[0])
    assert take_tally(device.home.tally) == server.sent - sent


def test_where_nothing_can_be_counted_the_bundle_comes_nevertheless(
    device: Device, bundles: list[MadeBundle]
) -> None:
    device.home.tally.mkdir()
    device.update(bundles[0])
    assert device.fetched(bundles[0])
    assert take_tally(device.home.tally) == 0


def test_a_server_without_ranges_is_asked_from_the_beginning(
    device: Device, server: FileServer, bundles: list[MadeBundle]
) -> None:
    server.cut_after = [20_000]
    with pytest.raises(UnavailableError):
        device.update(bundles[0])
    server.ranges = False
    device.update(bundles[0])
    assert device.fetched(bundles[0])


def test_forged_bytes_are_thrown_away_and_the_true_ones_fetched_later(
    device: Device, repository: RepositorySimulator, bundles: list[MadeBundle]
) -> None:
    path = f"bundles/churn/{bundles[0].manifest.title}.whim"
    blob = repository.blob(path)
    true = blob.read_bytes()
    blob.write_bytes(true[:-1] + b"\x01")
    with pytest.raises(TrustError, match="not what was signed"):
        device.update(bundles[0])
    assert not device.home.part(bundles[0].digest).exists()
    blob.write_bytes(true + b"more")
    with pytest.raises(TrustError, match="longer"):
        device.update(bundles[0])
    blob.write_bytes(true)
    device.update(bundles[0])
    assert device.fetched(bundles[0])


def test_the_assignment_must_name_what_the_publisher_signed(
    device: Device, bundles: list[MadeBundle]
) -> None:
    wrong = Wanted("bundles/churn/churn-1.0.0.whim", "f" * 64, 10)
    with pytest.raises(TrustError) as caught:
        device.update(None, wanted=wrong)
    assert caught.value.code == "trust.mismatch"
    absent = Wanted("bundles/churn/churn-9.9.9.whim", "f" * 64, 10)
    with pytest.raises(UnavailableError) as missing:
        device.update(None, wanted=absent)
    assert missing.value.code == "repository.target"
    assert [name for name in device.left() if name != ".lock"] == []


def test_a_release_below_the_floor_is_refused(device: Device, bundles: list[MadeBundle]) -> None:
    with pytest.raises(TrustError) as caught:
        device.update(bundles[0], floors={"churn": 2})
    assert caught.value.code == "trust.release"
    device.update(bundles[1], floors={"churn": 2})


def test_bundles_for_other_devices_or_too_large_are_refused(
    device: Device, repository: RepositorySimulator, bundles: list[MadeBundle]
) -> None:
    repository.publish(bundles[0], device_classes=("till", "gateway"))
    with pytest.raises(CompatibilityError, match="class till, gateway"):
        device.update(bundles[0], device_classes=("pump",))
    with pytest.raises(CompatibilityError, match="this device takes 1000"):
        device.update(bundles[0], device_classes=("till",), max_bytes=1000)
    device.update(bundles[0], device_classes=("till",))


def test_expired_metadata_stops_updates_with_a_hint_at_the_clock(
    device: Device, repository: RepositorySimulator, bundles: list[MadeBundle]
) -> None:
    """What a device whose clock says 2106 sees, too; put right, it goes on."""
    device.update(bundles[0])
    repository.expire(by=dt.timedelta(days=365))
    with pytest.raises(UnavailableError, match="expired") as caught:
        device.update(bundles[1])
    assert caught.value.code == "trust.expired"
    assert "clock" in str(caught.value.hint)
    repository.renew()
    device.update(bundles[1])
    assert device.fetched(bundles[1])


def test_a_clock_that_stands_in_1970_does_not_admit_what_had_expired_before(
    device: Device, bundles: list[MadeBundle]
) -> None:
    """The floor comes from signed metadata: here, from some that was newer than this."""
    now_ms = int(dt.datetime.now(dt.timezone.utc).timestamp() * 1000)
    done = device.update(bundles[0])
    assert now_ms - 8 * 86_400_000 < done.clock_floor_ms < now_ms
    with pytest.raises(UnavailableError, match="had expired before") as caught:
        device.update(bundles[1], clock_floor_ms=now_ms + 3 * 86_400_000)
    assert caught.value.code == "trust.expired"


def test_metadata_of_another_publisher_is_refused_and_trust_stays(
    device: Device, tmp_path: Path, bundles: list[MadeBundle]
) -> None:
    device.update(bundles[0])
    before = device.home.publishers_json.read_bytes()
    stranger = RepositorySimulator(tmp_path / "stranger", bundles[0].key)
    stranger.publish(bundles[1])
    device.url = str(stranger.folder)
    with pytest.raises(TrustError) as caught:
        device.update(bundles[1])
    assert caught.value.code == "trust.metadata"
    assert device.home.publishers_json.read_bytes() == before


def test_what_was_proven_here_may_be_assigned_again_without_the_repository(
    device: Device, bundles: list[MadeBundle]
) -> None:
    device.hold(bundles[0])
    device.url = str(device.home.root / "unplugged")
    with pytest.raises(UnavailableError):
        device.update(bundles[0])
    assert device.update(bundles[0], known=(bundles[0].digest,)).source == "store"
    device.home.bundle(bundles[0].digest).write_bytes(b"spoilt")
    with pytest.raises(UnavailableError):
        device.update(bundles[0], known=(bundles[0].digest,))


def test_no_root_no_update(device: Device, bundles: list[MadeBundle]) -> None:
    device.home.root_json.unlink()
    with pytest.raises(TrustError) as caught:
        device.update(bundles[0])
    assert caught.value.code == "trust.root"


@pytest.mark.parametrize("status", [500, 403], ids=str)
def test_a_server_in_trouble_is_asked_again_later(
    device: Device, server: FileServer, bundles: list[MadeBundle], status: int
) -> None:
    server.status["metadata/timestamp.json"] = status
    with pytest.raises(UnavailableError, match=f"HTTP {status}") as caught:
        device.update(bundles[0])
    assert caught.value.retryable


def test_nobody_there_is_said_with_the_address(
    device: Device, server: FileServer, bundles: list[MadeBundle]
) -> None:
    server.close()
    with pytest.raises(UnavailableError, match=device.url):
        device.update(bundles[0])
    server.close = lambda: None  # type: ignore[method-assign]


def test_a_path_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plain relative path"):
        list(FolderTransport(str(tmp_path)).chunks("metadata/../../etc/passwd"))


def test_a_full_disk_keeps_what_came_and_says_so(
    device: Device, bundles: list[MadeBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real ENOSPC: `/dev/full` stands where the file would be."""
    made = bundles[0]
    device.update(None)
    part = device.home.part(made.digest)
    part.symlink_to("/dev/full")
    with pytest.raises(StorageError) as caught:
        device.update(made)
    assert caught.value.code == "storage.full"
    assert caught.value.hint is not None
    part.unlink()
    # And one in the middle: what was written before stays, and is gone on from.
    size = made.path.stat().st_size
    part.write_bytes(made.path.read_bytes()[: size // 2])
    real = os.fsync

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError):
        download.fetch(
            FolderTransport(str(device.repository.folder)),
            "nothing",
            part,
            length=size // 2,
            digest=made.digest,
        )
    assert part.stat().st_size == size // 2
    monkeypatch.setattr(os, "fsync", real)
    device.update(made)
    assert device.fetched(made)


def test_what_an_updater_fetches_is_not_tidied_away_under_it(device: Device) -> None:
    part = device.home.part("0" * 64)
    part.write_bytes(b"half of fleet.json")
    with download.alone(device.home):
        collect(device.home, (), keep=0)
        assert part.exists()
    collect(device.home, (), keep=0)
    assert not part.exists()


def test_two_updaters_on_one_folder_do_not_spoil_each_other(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updater, "_WAIT_S", 0.0)
    request = UpdateRequest(device.url, str(device.home.root))
    with download.alone(device.home), pytest.raises(UnavailableError) as caught:
        updater.answer(msgspec.json.encode(request))
    assert caught.value.code == "updater.busy"
