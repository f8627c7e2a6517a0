from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from tuf.api.exceptions import DownloadHTTPError, ExpiredMetadataError
from tuf.ngclient import (  # type: ignore[attr-defined]  # public, not listed
    FetcherInterface,
    Updater,
    UpdaterConfig,
)

from tests.packager.command import whimbrel
from tests.support.founded import founded
from whimbrel_core.errors import BundleError, RefusedError, StorageError, TrustError, UsageError
from whimbrel_packager import atomic
from whimbrel_packager.repository import delta, publishing
from whimbrel_packager.repository.metadata import Lives
from whimbrel_packager.repository.repository import Repository
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.packager.conftest import Packed
    from whimbrel_packager.repository.publishing import Published


class Made(NamedTuple):
    """A repository with its keys, and bundles to publish."""

    repo: Repository
    keys: Path
    online: Path
    bundles: dict[str, Path]

    def publish(
        self, version: str, *, online: bool = True, now: datetime | None = None
    ) -> Published:
        return publishing.publish(
            self.repo,
            self.bundles[version],
            self.keys,
            now=now or datetime.now(UTC),
            online=self.online if online else None,
        )


@pytest.fixture(scope="session")
def template(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("template")
    keys, online = folder / "keys", folder / "online"
    repo = founded(folder / "repo", keys, online, now=datetime.now(UTC))
    bundles = {}
    for release, version in enumerate(("1.0.0", "1.1.0", "1.2.0", "1.3.0"), start=1):
        path = folder / f"{version}.whim"
        path.write_bytes(packed.again(version, release, keys / "bundle.pem"))
        bundles[version] = path
    return Made(repo, keys, online, bundles)


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    shutil.copytree(template.repo.directory, tmp_path / "repo")
    return template._replace(repo=Repository(tmp_path / "repo"))


class DirectoryFetcher(FetcherInterface):
    """Reads a repository from a directory: a USB stick."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._directory / urlsplit(url).path.lstrip("/")
        if not path.is_file():
            raise DownloadHTTPError(f"no {path}", 404)
        yield path.read_bytes()


class HttpFetcher(FetcherInterface):
    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            with urlopen(url) as answer:  # noqa: S310 - loopback
                yield answer.read()
        except OSError as error:
            raise DownloadHTTPError(str(error), 404) from error


def device(repo: Repository, home: Path, fetcher: FetcherInterface | None = None,
           base: str = "https://repo") -> Updater:  # fmt: skip
    """A device's TUF client, enrolled with the first root."""
    home.mkdir(exist_ok=True)
    return Updater(
        str(home),
        f"{base}/metadata",
        target_dir=str(home),
        target_base_url=f"{base}/targets",
        fetcher=fetcher or DirectoryFetcher(repo.directory),
        config=UpdaterConfig(prefix_targets_with_hash=True),
        bootstrap=(repo.metadata / "1.root.json").read_bytes(),
    )


def seen_versions(repo: Repository, home: Path) -> set[str]:
    """Return the versions of flights that a fresh device can fetch, having fetched each."""
    found = set()
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        client = device(repo, home)
        info = client.get_targetinfo(f"bundles/flights/flights-{version}.whim")
        if info is not None:
            client.download_target(info, str(home / "bundle"))
            found.add(version)
    return found


def test_a_device_finds_what_was_published(made: Made, tmp_path: Path) -> None:
    published = made.publish("1.0.0")
    assert published.signed == ("2.targets.json", "2.snapshot.json", "timestamp.json")
    client = device(made.repo, tmp_path / "device")
    info = client.get_targetinfo("bundles/flights/flights-1.0.0.whim")
    assert info is not None
    custom = info.custom["whimbrel"]
    assert (custom["name"], custom["version"], custom["release"]) == ("flights", "1.0.0", 1)
    assert len(custom["profile_id"]) == 64
    path = client.download_target(info, str(tmp_path / "device" / "bundle"))
    assert Path(path).read_bytes() == made.bundles["1.0.0"].read_bytes()


def test_a_device_finds_the_keys_it_shall_trust(made: Made, tmp_path: Path) -> None:
    client = device(made.repo, tmp_path / "device")
    trust = {}
    for name in ("publishers", "fleet"):
        info = client.get_targetinfo(f"trust/{name}.json")
        assert info is not None
        path = client.download_target(info, str(tmp_path / "device" / name))
        trust[name] = json.loads(Path(path).read_bytes())["keys"]
    assert trust["publishers"] == [
        {"pem": keyfiles.public(made.keys / "bundle.pub").pem, "models": ["*"]}
    ]
    assert trust["fleet"] == [{"pem": keyfiles.public(made.online / "fleet.pub").pem}]


def test_any_file_server_serves_a_repository(made: Made, tmp_path: Path) -> None:
    made.publish("1.0.0")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(made.repo.directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            base = f"http://127.0.0.1:{server.server_port}"
            client = device(made.repo, tmp_path / "device", HttpFetcher(), base)
            info = client.get_targetinfo("bundles/flights/flights-1.0.0.whim")
            assert info is not None
            client.download_target(info, str(tmp_path / "device" / "bundle"))
        finally:
            server.shutdown()
            thread.join()


def test_deltas_lead_from_the_last_two_releases_to_the_new_bytes(made: Made) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        made.publish(version)
    published = made.publish("1.3.0")
    assert set(published.delta_bytes) == {"1.1.0", "1.2.0"}
    new = made.bundles["1.3.0"].read_bytes()
    by_digest = {one.digest: one for one in made.repo.released()}
    for link in published.released.deltas:
        old = by_digest[link["from"]]
        data = made.repo.read(link["path"])
        assert link["path"] == f"deltas/flights/flights-{old.version}-1.3.0.zst"
        assert len(data) < 0.1 * len(new)
        rebuilt = delta.decode(made.bundles[old.version].read_bytes(), data, length=len(new))
        assert rebuilt == new


def test_a_delta_that_saves_nothing_is_not_kept() -> None:
    assert delta.encode(os.urandom(50_000), os.urandom(50_000)) is None


def test_without_online_keys_the_server_signs_the_rest(made: Made, tmp_path: Path) -> None:
    published = made.publish("1.0.0", online=False)
    assert published.signed == ("2.targets.json",)
    assert published.waiting
    assert made.repo.status().waiting
    assert seen_versions(made.repo, tmp_path / "early") == set()
    signed = made.repo.refresh(now=datetime.now(UTC), online=made.online, keys=None)
    assert signed == ("2.snapshot.json", "timestamp.json")
    assert not made.repo.status().waiting
    assert seen_versions(made.repo, tmp_path / "late") == {"1.0.0"}


def test_publishing_the_same_bundle_again_changes_nothing(made: Made) -> None:
    made.publish("1.0.0")
    again = made.publish("1.0.0", online=False)
    assert not again.fresh
    assert not again.waiting
    assert again.targets_version == 2


def test_a_published_version_never_changes(made: Made, packed: Packed, tmp_path: Path) -> None:
    made.publish("1.0.0")
    other = tmp_path / "other.whim"
    other.write_bytes(packed.again("1.0.0", 9, made.keys / "bundle.pem"))
    with pytest.raises(RefusedError, match="published already, with other content") as caught:
        publishing.publish(made.repo, other, made.keys, now=datetime.now(UTC))
    assert caught.value.code == "refused.version"
    assert made.repo.newest("targets") == 2


def test_the_release_counter_has_to_grow(made: Made, packed: Packed, tmp_path: Path) -> None:
    made.publish("1.1.0")
    with pytest.raises(RefusedError, match=r"has release counter 1, and 1\.1\.0 has 2") as caught:
        made.publish("1.0.0")
    assert "--release 3" in str(caught.value.hint)
    assert made.repo.next_release("flights", "1.2.0") == 3
    assert made.repo.next_release("flights", "1.1.0") == 2
    assert made.repo.next_release("other", "0.1.0") == 1


def test_a_bundle_by_a_key_that_devices_do_not_trust_is_not_published(
    made: Made, packed: Packed
) -> None:
    with pytest.raises(TrustError, match="nothing was published"):
        publishing.publish(made.repo, packed.bundle, made.keys, now=datetime.now(UTC))
    assert made.repo.newest("targets") == 1
    assert not (made.repo.directory / "targets" / "bundles").exists()


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_bundle_is_not_published(made: Made, tmp_path: Path, how: str) -> None:
    data = made.bundles["1.0.0"].read_bytes()
    middle = len(data) // 2
    bad = data[:middle] if how == "cut" else data[:middle] + b"\xff\x00" + data[middle + 2 :]
    (tmp_path / "bad.whim").write_bytes(bad)
    with pytest.raises((TrustError, BundleError)):
        publishing.publish(made.repo, tmp_path / "bad.whim", made.keys, now=datetime.now(UTC))
    assert made.repo.released() == []


def test_another_repositorys_keys_are_refused(made: Made, tmp_path: Path) -> None:
    founded(tmp_path / "r", tmp_path / "k", tmp_path / "o", now=datetime.now(UTC))
    with pytest.raises(TrustError, match="given targets key is not the one") as caught:
        publishing.publish(made.repo, made.bundles["1.0.0"], tmp_path / "k", now=datetime.now(UTC))
    assert caught.value.code == "trust.role"
    with pytest.raises(TrustError, match="given snapshot key is not the one"):
        publishing.publish(
            made.repo,
            made.bundles["1.0.0"],
            made.keys,
            now=datetime.now(UTC),
            online=tmp_path / "o",
        )
    assert made.repo.newest("targets") == 1


def test_tampered_metadata_and_blobs_are_noticed(made: Made) -> None:
    published = made.publish("1.0.0")
    folder, _, name = published.released.path.rpartition("/")
    blob = made.repo.directory / "targets" / folder / f"{published.released.digest}.{name}"
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(TrustError, match="is not what was signed"):
        made.publish("1.1.0")  # it would make a delta from it
    file = made.repo.metadata / "2.targets.json"
    tampered = re.sub(rb'("release": ?)1', rb"\g<1>7", file.read_bytes())
    assert tampered != file.read_bytes()
    file.write_bytes(tampered)
    with pytest.raises(TrustError, match=r"2\.targets\.json does not verify"):
        made.repo.targets()


@pytest.mark.parametrize("failing", range(6))
def test_whoever_is_interrupted_leaves_the_old_state_or_the_new_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    made.publish("1.0.0")
    written: list[Path] = []
    real = atomic.write

    def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        if len(written) == failing:
            raise StorageError(f"{path} could not be written: the disk is full")
        real(path, data, mode=mode)
        written.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "write", write)
        if failing < 5:  # delta, bundle, targets, snapshot, timestamp
            with pytest.raises(StorageError):
                made.publish("1.1.0")
        else:
            made.publish("1.1.0")
    complete = failing >= 5
    expected = {"1.0.0", "1.1.0"} if complete else {"1.0.0"}
    assert seen_versions(made.repo, tmp_path / "between") == expected
    made.publish("1.1.0")
    assert seen_versions(made.repo, tmp_path / "after") == {"1.0.0", "1.1.0"}


def test_two_publishers_at_once_do_not_mix(made: Made) -> None:
    with made.repo.locked(), pytest.raises(UsageError, match="somebody else is publishing"):
        publishing.publish(
            Repository(made.repo.directory), made.bundles["1.0.0"], made.keys, now=datetime.now(UTC)
        )
    made.publish("1.0.0")  # the lock is free again


def test_metadata_expires_and_is_refreshed(made: Made, tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=3)
    made.publish("1.0.0", now=past)
    with pytest.raises(ExpiredMetadataError):
        device(made.repo, tmp_path / "one").get_targetinfo("trust/fleet.json")
    made.repo.refresh(now=datetime.now(UTC), online=made.online, keys=made.keys)
    assert seen_versions(made.repo, tmp_path / "two") == {"1.0.0"}
    left = {
        role: (expires - datetime.now(UTC)).days + 1
        for role, expires in made.repo.status().expires.items()
        if expires is not None
    }
    lives = Lives()
    assert left["targets"] == lives.targets == 90
    assert (left["snapshot"], left["timestamp"]) == (7, 1)


def test_a_repository_is_made_once_and_its_keys_are_kept(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a repository already"):
        founded(made.repo.directory, tmp_path / "k", tmp_path / "o", now=datetime.now(UTC))
    assert not (tmp_path / "k").exists()
    keyfiles.create(tmp_path / "k", "bundle")
    before = (tmp_path / "k" / "bundle.pem").read_bytes()
    founded(tmp_path / "r", tmp_path / "k", tmp_path / "o", now=datetime.now(UTC))
    assert (tmp_path / "k" / "bundle.pem").read_bytes() == before
    assert (tmp_path / "k" / "root.pem").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no repository") as caught:
        Repository(tmp_path).targets()
    assert "whimbrel repo init" in str(caught.value.hint)


def test_the_commands_tell_the_same_story(made: Made) -> None:
    repo = made.repo.directory
    options = ("--repo", repo, "--keys", made.keys)
    done = whimbrel("publish", made.bundles["1.0.0"], *options)
    assert done.code == 0, done.err
    assert "published: flights 1.0.0, release 1" in done.out
    assert "for the fleet server to sign snapshot and timestamp" in done.out
    assert "error" not in done.err
    shown = whimbrel("repo", "show", "--dir", repo)
    assert "waiting for the fleet server" in shown.out
    signed = whimbrel("repo", "refresh", "--dir", repo, "--online-keys", made.online)
    assert signed.out == "signed 2.snapshot.json, timestamp.json\n"
    told = json.loads(whimbrel("repo", "show", "--dir", repo, "--json").out)
    assert told["roles"]["targets"]["version"] == 2
    assert [bundle["version"] for bundle in told["bundles"]] == ["1.0.0"]
    assert not told["waiting_for_server"]
    refused = whimbrel("publish", made.bundles["1.0.0"], "--repo", repo / "no", "--keys", made.keys)
    assert refused.code == 2
    assert "is no repository" in refused.err
