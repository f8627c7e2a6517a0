"""Control stays small: what is heavy lives in other processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from whimbrel_agent.system import notify, resources

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HEAVY = ("numpy", "onnxruntime", "cryptography", "tuf", "httpx", "zstandard", "dns", "rich")


def test_control_imports_nothing_heavy() -> None:
    code = (
        "import sys, whimbrel_agent.control.app, whimbrel_agent.telemetry.publisher\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_service_manager_is_told_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        assert notify.notify("READY=1", "STATUS=serving")
        assert manager.recv(100) == b"READY=1\nSTATUS=serving"
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert notify.watchdog_s() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert notify.watchdog_s() is None


def test_a_clock_that_no_device_can_have_is_not_believed() -> None:
    for year_s in (0.0, 4_291_747_200.0):  # 1970, 2106
        assert resources.clock_quality(year_s) == "unsynced"
