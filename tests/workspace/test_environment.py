"""An environment is set up once, and believed only when its set-up ended well."""

from __future__ import annotations

import fcntl
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with its effects replaced by notes: what it decides is what is tested here."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools/environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = tmp_path / "checkout"
    for part in module.ALL:
        (root / part).mkdir(parents=True)
        (root / part / "pyproject.toml").write_text(part)
    (root / "requirements").mkdir()
    for pins in ("build", "run", "dev", "device"):
        (root / f"requirements/{pins}.txt").write_text(f"{pins}==1")
    monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(module, "_works", lambda venv: venv.is_dir())
    notes: list[str] = []
    monkeypatch.setattr(module, "notes", notes, raising=False)

    def create(venv: Path) -> None:
        notes.append("create")
        venv.mkdir(exist_ok=True)

    monkeypatch.setattr(module, "_create", create)
    for step in ("_install_pins", "_install_parts"):
        monkeypatch.setattr(module, step, lambda kind, _, step=step: notes.append(f"{step} {kind.name}"))  # fmt: skip
    return module


def steps(environment: ModuleType, kind: str, venv: Path) -> list[str]:
    environment.notes.clear()
    environment.ensure(environment.KINDS[kind], venv)
    return list(environment.notes)


WHOLE = ["create", "_install_pins dev", "_install_parts dev"]


def test_it_is_set_up_once(environment: ModuleType, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert steps(environment, "dev", venv) == WHOLE
    assert steps(environment, "dev", venv) == []
    assert steps(environment, "run", venv) == []  # what the tests need contains what running needs


def test_more_is_added_to_what_is_there(environment: ModuleType, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    steps(environment, "run", venv)
    assert steps(environment, "dev", venv) == WHOLE[1:]


def test_changed_pins_are_put_over_it_and_a_changed_part_is_only_installed_again(
    environment: ModuleType, tmp_path: Path
) -> None:
    venv = tmp_path / "venv"
    steps(environment, "dev", venv)
    (environment.ROOT / "agent/pyproject.toml").write_text("another entry point")
    assert steps(environment, "run", venv) == ["_install_parts dev"]
    (environment.ROOT / "requirements/dev.txt").write_text("dev==2")
    assert steps(environment, "run", venv) == WHOLE[1:]  # the tests' tools stay
    assert steps(environment, "dev", venv) == []
    (environment.ROOT / "requirements/device.txt").write_text("device==2")
    assert steps(environment, "dev", venv) == []


@pytest.mark.parametrize(
    ("step", "before"),
    [
        ("_create", None),
        ("_install_pins", None),
        ("_install_pins", "run"),
        ("_install_parts", None),
        ("_install_parts", "run"),
    ],
)
def test_an_interrupted_set_up_is_not_believed(
    environment: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    before: str | None,
) -> None:
    venv = tmp_path / "venv"
    if before:
        steps(environment, before, venv)
        (environment.ROOT / "requirements/run.txt").write_text("run==2")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(environment, step, killed)
        with pytest.raises(KeyboardInterrupt):
            steps(environment, "run", venv)
    assert steps(environment, "run", venv) == ["create", "_install_pins run", "_install_parts run"]


def test_a_moved_or_broken_environment_is_made_anew(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    steps(environment, "dev", venv)
    assert steps(environment, "device", venv)[0] == "create"  # nothing in common
    assert steps(environment, "dev", venv) == WHOLE
    moved = venv.rename(tmp_path / "moved")
    assert steps(environment, "dev", moved) == WHOLE
    monkeypatch.setattr(environment, "_works", lambda _: False)
    assert steps(environment, "dev", moved) == WHOLE
    monkeypatch.setattr(environment, "_works", lambda _: True)
    for damaged in ("not JSON", "[]", '{"kind": "dev"}', '{"kind": "other"}'):
        (moved / environment.STAMP).write_text(damaged)
        assert steps(environment, "dev", moved) == WHOLE


def test_two_set_ups_wait_for_each_other(environment: ModuleType, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    with (
        environment._alone(venv),
        venv.with_name("venv.lock").open("w") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with venv.with_name("venv.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_a_killed_set_up_started_keeps_the_lock(
    environment: ModuleType, tmp_path: Path
) -> None:
    lock = tmp_path / "venv.lock"
    asks = f"import fcntl; fcntl.flock(open({str(lock)!r}, 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with environment._alone(tmp_path / "venv"):
        held = [fd for fd in Path("/proc/self/fd").iterdir() if fd.exists() and fd.samefile(lock)]
        assert [environment.os.get_inheritable(int(fd.name)) for fd in held] == [True]
        assert environment._quiet([sys.executable, "-c", asks]).returncode == 1
    assert environment._quiet([sys.executable, "-c", asks]).returncode == 0


def test_an_old_python_is_refused_with_its_version(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 2))
    with pytest.raises(environment.SetupError, match=r"Python 3\.11 or newer is needed.* 3\.9\.2"):
        steps(environment, "dev", tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


def test_the_finder_of_pythons_takes_only_one_that_starts(tmp_path: Path) -> None:
    def find(python: Path) -> subprocess.CompletedProcess[str]:
        finder = ["/bin/sh", str(ROOT / "tools/find-python.sh"), str(python)]
        return subprocess.run(finder, capture_output=True, text=True)

    shim = tmp_path / "shim"
    shim.write_text("#!/bin/sh\necho 'shim: no such version' >&2\nexit 127\n")
    shim.chmod(0o755)
    refused = find(shim)
    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed" in refused.stderr
    assert "shim: no such version" in refused.stderr
    assert "hint:" in refused.stderr
    assert find(Path(sys.executable)).stdout == f"{sys.executable}\n"


def test_lock_files_have_hashes_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text, path.name
        pins = [line for line in text.splitlines() if "==" in line]
        assert pins
        assert all(line.endswith("\\") for line in pins), f"{path.name}: a pin without a hash"


def test_what_the_parts_ask_for_is_pinned() -> None:
    """A dependency that is added to a part and not locked would be found by a user only."""
    pins = (ROOT / "requirements/run.txt").read_text().lower()
    names = {line.partition("==")[0] for line in pins.splitlines() if "==" in line}
    for part in ("core", "agent", "packager", "server"):
        project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
        for requirement in project["dependencies"]:
            named = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert named
            if not requirement.startswith("whimbrel-") and "python_version" not in requirement:
                assert named[0].lower() in names, f"{part} asks for {named[0]}: make lock"
