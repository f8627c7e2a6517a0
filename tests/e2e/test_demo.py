"""The demo, as `make demo ARGS=--once` runs it: every line of its closing table is as promised."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiers import DAEMONS

ROOT = Path(__file__).resolve().parents[2]
# Two minutes on two idle cores; a machine that does other things as well may take longer.
TIMEOUT_S = 600
LINE = re.compile(r"^\s*([✓✗])\s+(\S.*)$")


def run(folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run the demo; return its exit code and what it printed."""
    command = [sys.executable, "-m", "examples.flights", "--once", "--work", str(folder)]
    with (folder.with_suffix(".out")).open("w+b") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        try:
            code = process.wait(TIMEOUT_S)
        finally:
            if process.poll() is None:  # it ends what it started when it is asked to stop
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        out.seek(0)
        return code, out.read().decode("utf-8")


def require_kept(code: int, text: str) -> None:
    """Hold the closing table against its promises."""
    _, _, table = text.partition("What was promised")
    lines = [found.groups() for found in map(LINE.match, table.splitlines()) if found]
    assert len(lines) >= 10, text
    assert [promise for mark, promise in lines if mark != "✓"] == [], text
    assert "everything is as promised" in text
    assert code == 0, text


@pytest.mark.needs("mosquitto")
@pytest.mark.timeout(TIMEOUT_S + 90)
def test_the_demo_keeps_every_promise(tmp_path: Path) -> None:
    code, text = run(tmp_path / "demo", dict(os.environ))
    assert "mosquitto with mutual TLS is the broker" in text
    require_kept(code, text)


@pytest.mark.campaign
@pytest.mark.timeout(TIMEOUT_S + 90)
def test_the_demo_keeps_every_promise_without_mosquitto(tmp_path: Path) -> None:
    folders = [
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if folder not in DAEMONS and not (Path(folder) / "mosquitto").exists()
    ]
    path = os.pathsep.join(folders)
    assert shutil.which("mosquitto", path=path) is None
    code, text = run(tmp_path / "demo", {**os.environ, "PATH": path})
    assert "no mosquitto on PATH: the server runs its embedded broker" in text
    require_kept(code, text)
