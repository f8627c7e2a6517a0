"""`make test` fails when something failed that was to run, and names what did not run."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "tools/run_tests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for step in ("_debian", "_networks", "_device_python"):
        monkeypatch.setattr(module, f"real{step}", getattr(module, step), raising=False)
        monkeypatch.setattr(module, step, lambda: module.Outcome(0, ()))
    monkeypatch.setattr(module, "TIERS", ())
    monkeypatch.setenv("PATH", os.environ["PATH"])
    return module


def a_test(folder: Path, body: str) -> list[str]:
    path = folder / "test_it.py"
    path.write_text(f"import os, pytest\ndef test_it():\n    {body}\n")
    return ["-p", "no:randomly", "-c", os.devnull, "-p", "tests.support.tiers", str(path)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("pass", 0),
        ("assert False", 1),
        ("os._exit(0)", 1),  # the end was never reached, so nothing is known
        ("os.kill(os.getpid(), 9)", 137),
    ],
    ids=["passes", "fails", "vanishes", "killed"],
)
def test_the_exit_code_is_that_of_the_tests(
    runner: ModuleType, tmp_path: Path, body: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(a_test(tmp_path, body)) == code
    assert capfd.readouterr().out.splitlines()[-1].endswith("ARGS left them out")


def test_a_skipped_test_is_named_in_the_last_lines(
    runner: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(a_test(tmp_path, "pytest.skip('no such wire')")) == 0
    assert "did not run: 1 tests: no such wire" in capfd.readouterr().out.splitlines()[-2:]


def test_without_a_python_3_10_it_says_so(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_find_device_python", lambda: None)
    outcome = runner.real_device_python()
    assert outcome.code == 0
    assert outcome.not_run == ("Python 3.10 (core and agent): no python3.10 is installed",)


def test_a_shim_that_starts_nothing_is_no_python(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.10"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert runner._find_device_python() is None


@pytest.mark.parametrize("root", [True, False])
def test_a_missing_program_is_installed_or_the_command_is_printed(
    runner: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    root: bool,
) -> None:
    log = tmp_path / "log"
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!{sys.executable}\nimport sys\nopen("{log}", "a").write(" ".join(sys.argv[1:]) + "\\n")\nsys.exit(100)\n')  # fmt: skip
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runner.os, "geteuid", lambda: 0 if root else 1000)
    outcome = runner.real_debian()
    if root:
        assert outcome.code == 1
        assert "apt-get could not install" in outcome.not_run[0]
        assert "install -y --no-install-recommends mosquitto chromium" in log.read_text()
    else:
        assert outcome.code == 0
        assert not log.exists()
        assert "sudo apt-get install" in capfd.readouterr().out
