"""Equal inputs give equal bytes, whatever the process, the folder and the order of hashes."""

from __future__ import annotations

import getpass
import io
import os
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.packager.record.conftest import RECIPE, Project, make_project
from whimbrel_core import identity
from whimbrel_core.bundle.archive import Archive

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-m", "whimbrel_core.cli")


def run(folder: Path, *words: object, **env: str) -> str:
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Project]:
    """The same files in two places, the second with other times and a recipe in another order."""
    one = make_project(tmp_path_factory.mktemp("first-place"))
    folder = tmp_path_factory.mktemp("second") / "deeper" / "place"
    shutil.copytree(one.folder, folder)
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    written = RECIPE.replace(
        'units = { wind = "kn", temp = "degF" }', 'units = { temp = "degF", wind = "kn" }'
    ).replace("seeds = { split = 7, fold = 3 }", "seeds = { fold = 3, split = 7 }")
    assert written != RECIPE
    (folder / "whimbrel.toml").write_text(written)
    return one, Project(folder, folder / "flights-1.0.0.whim")


def test_two_processes_in_two_places_make_the_same_bytes_and_say_nothing_of_either(
    elsewhere: tuple[Project, Project],
) -> None:
    one, two = elsewhere
    run(
        one.folder, "pack", "--recipe", "whimbrel.toml", "--key", "keys/bundle.pem", "--out", "a",
        SOURCE_DATE_EPOCH="1700000000", PYTHONHASHSEED="1",
    )  # fmt: skip
    run(
        two.folder.parent, "pack", "--recipe", two.folder / "whimbrel.toml", "--key", two.key,
        "--out", two.folder / "b",
        SOURCE_DATE_EPOCH="1700000000", PYTHONHASHSEED="4321", LC_ALL="C", TZ="Asia/Tokyo",
    )  # fmt: skip
    made = [p.read_bytes() for p in (one.folder / "a" / one.bundle.name,
                                     two.folder / "b" / two.bundle.name)]  # fmt: skip
    assert identity.sha256(made[0]) == identity.sha256(made[1])
    held = Archive(io.BytesIO(made[0]))
    private = {one.folder.name, str(one.folder), f"/{getpass.getuser()}/", "secret"}
    for name in held.names:
        for text in private:
            assert text.encode() not in held.read(name), (name, text)
        assert not says(held.read(name), socket.gethostname()), name


def says(content: bytes, word: str) -> bool:
    """Whether a text holds a word; a machine's name of two letters is in any signature's base64."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return len(word) > 4 and word.encode() in content
    return re.search(rf"(?<![\w+/]){re.escape(word)}(?![\w+/])", text) is not None


def test_a_bundle_with_date_and_measurements_is_made_again_in_another_place(
    elsewhere: tuple[Project, Project],
) -> None:
    one, two = elsewhere
    run(one.folder, "pack", "--recipe", "whimbrel.toml", "--key", "keys/bundle.pem", "--out", "c",
        PYTHONHASHSEED="7")  # fmt: skip
    told = run(
        two.folder, "rebuild", one.folder / "c" / one.bundle.name, "--model", "out/model.skops",
        "--reference", "data.npz", "--key", "keys/bundle.pem", "--trust", "keys/bundle.pub",
        PYTHONHASHSEED="8", SOURCE_DATE_EPOCH="1",
    )  # fmt: skip
    assert told.startswith("the same: flights 1.0.0, 7 files, byte for byte")
    assert "signature  the same" in told
    assert identity.sha256((one.folder / "c" / one.bundle.name).read_bytes()) in told
