"""A PKCS#11 token of SoftHSM in a folder, with keys of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

PIN = "5678"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
            "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so")  # fmt: skip


class Token(NamedTuple):
    """A token: the PKCS#11 module that has it, its label, a file with its PIN."""

    module: str
    label: str
    pin: Path

    def uri(self, name: str, *, pin: bool = True, token: str = "") -> str:
        """Return the URI of a key on it."""
        source = f"&pin-source={self.pin}" if pin else ""
        return f"pkcs11:token={token or self.label};object={name}?module-path={self.module}{source}"


def make_token(folder: Path, label: str = "release") -> Token:
    """Make a token; the module reads its place from the environment, once in a process."""
    module = next((path for path in _MODULES if Path(path).is_file()), None)
    if module is None:
        pytest.skip("libsofthsm2.so is not where Debian puts it")
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(config)
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "1234",
         "--pin", PIN],
        check=True,
        capture_output=True,
    )  # fmt: skip
    pin = folder / "pin"
    pin.write_text(f"{PIN}\n")
    return Token(module, label, pin)
