"""A repository with several releases, devices enrolled in it, and the agent's own updater."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tuf.ngclient import Updater, UpdaterConfig  # type: ignore[attr-defined]  # not listed

from tests.packager.command import Done, whimbrel
from tests.packager.test_repository import DirectoryFetcher
from tests.support.founded import founded
from whimbrel_agent.paths import DataDirectory
from whimbrel_agent.update import updater
from whimbrel_agent.update.messages import Updated, UpdateRequest, Wanted
from whimbrel_agent.update.metering import Metered
from whimbrel_agent.update.repository_address import transport
from whimbrel_packager.repository.repository import Repository
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed


class Desk(NamedTuple):
    """A publisher's desk: a repository, folders of keys, and bundles by version."""

    folder: Path
    repo: Repository
    bundles: dict[str, Path]

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def online(self) -> Path:
        return self.folder / "online"

    def repo_command(self, *words: object, online: bool = True, keys: bool = True) -> Done:
        """Run ``whimbrel repo …`` with this desk's keys."""
        options: list[object] = ["--dir", self.repo.directory]
        options += ["--keys", self.keys] if keys else []
        options += ["--online-keys", self.online] if online else []
        return whimbrel("repo", *words, *options)

    def publish(self, version: str, *, online: bool = True, keys: Path | None = None) -> Done:
        options = ("--online-keys", self.online) if online else ()
        return whimbrel("publish", self.bundles[version], "--repo", self.repo.directory, "--keys",
                        keys or self.keys, *options)  # fmt: skip

    def new_key(self, name: str, folder: Path | None = None) -> Path:
        """Make a key beside the others; return its public half's path."""
        _, path = keyfiles.create(folder or self.keys, name)
        return path.with_suffix(".pub")


class Device:
    """A device: the real TUF client and the agent's own updater, enrolled with one root."""

    def __init__(self, home: Path, root: bytes) -> None:
        self.home = DataDirectory(home)
        self.home.create()
        self.home.root_json.write_bytes(root)
        self.floor_ms = 0
        self._root, self._tuf = root, home / "plain"

    def sees(self, repository: Path, path: str) -> bool:
        """Return whether a plain TUF client finds a target and its bytes."""
        self._tuf.mkdir(exist_ok=True)
        client = Updater(
            str(self._tuf),
            "https://repo/metadata",
            target_dir=str(self._tuf),
            target_base_url="https://repo/targets",
            fetcher=DirectoryFetcher(repository),
            config=UpdaterConfig(prefix_targets_with_hash=True),
            bootstrap=self._root,
        )
        info = client.get_targetinfo(path)
        if info is not None:
            client.download_target(info, str(self._tuf / "bundle"))
        return info is not None

    def update(self, repository: Path, bundle: Path | None = None, name: str = "flights",
               version: str = "1.0.0", **more: object) -> Updated:  # fmt: skip
        """Run the agent's updater, as control would; keep the floor as control does."""
        wanted = None
        if bundle is not None:
            from whimbrel_core.identity import sha256

            data = bundle.read_bytes()
            wanted = Wanted(f"bundles/{name}/{name}-{version}.whim", sha256(data), len(data))
        request = UpdateRequest(
            str(repository),
            str(self.home.root),
            wanted,
            clock_floor_ms=self.floor_ms,
            **more,  # type: ignore[arg-type]
        )
        source = Metered(transport(str(repository)), self.home.tally)
        try:
            done = updater.update(request, self.home, source)
        finally:
            source.close()
        self.floor_ms = max(self.floor_ms, done.clock_floor_ms)
        return done

    def fetched(self, bundle: Path) -> bool:
        """Return whether the updater brought a bundle."""
        from whimbrel_core.identity import sha256

        return self.home.fetched(sha256(bundle.read_bytes())).is_file()


@pytest.fixture(scope="session")
def desk_template(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    repo = founded(folder / "repo", folder / "keys", folder / "online", now=datetime.now(UTC))
    bundles = {}
    for release, version in enumerate(("1.0.0", "1.1.0", "1.2.0"), start=1):
        bundles[version] = folder / f"{version}.whim"
        bundles[version].write_bytes(packed.again(version, release, folder / "keys/bundle.pem"))
    desk = Desk(folder, repo, bundles)
    assert desk.publish("1.0.0").code == 0
    return desk


@pytest.fixture
def desk(desk_template: Desk, tmp_path: Path) -> Desk:
    """A repository of one's own, in which 1.0.0 is published."""
    folder = tmp_path / "desk"
    shutil.copytree(desk_template.folder, folder)
    bundles = {version: folder / path.name for version, path in desk_template.bundles.items()}
    return Desk(folder, Repository(folder / "repo"), bundles)


@pytest.fixture
def device(desk: Desk, tmp_path: Path) -> Device:
    """A device that was enrolled with the first root, and has seen the repository."""
    found = Device(tmp_path / "device", (desk.repo.metadata / "1.root.json").read_bytes())
    found.update(desk.repo.directory)
    assert found.sees(desk.repo.directory, "bundles/flights/flights-1.0.0.whim")
    return found
