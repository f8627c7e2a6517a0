"""Run every static check, and say at the end which ones failed: `make check`.

All of them run even if an early one fails: whoever repairs one wants to know about the others.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What runs on a device, with its tests, has to hold on the oldest Python there.
DEVICE = ["core/whimbrel_core", "agent/whimbrel_agent"]


def main(code: list[str]) -> int:
    """Check ``code`` (folders, relative to the repository)."""
    own = Path(sys.executable).parent
    mypy = [str(own / "mypy"), "--no-error-summary"]
    checks = {
        "lint": [str(own / "ruff"), "check", "--quiet", "."],
        "formatting": [str(own / "ruff"), "format", "--check", "--quiet", "."],
        "types": [*mypy, *code],
        "types on Python 3.10": [*mypy, "--python-version", "3.10", *DEVICE],
        "direction of imports": [str(own / "lint-imports"), "--no-logo"],
        "generated pages": [sys.executable, "tools/docs.py", "--check"],
    }
    failed = []
    for name, command in checks.items():
        started = time.monotonic()
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:<22} {verdict:<7} {time.monotonic() - started:5.1f} s", flush=True)
        if done.returncode != 0:
            failed.append(name)
            print((done.stdout + done.stderr).rstrip() or f"exit code {done.returncode}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
