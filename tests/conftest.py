"""Rules of every test run: loopback only, quick tiers first, nothing skipped silently."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support import ports

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["tests.support.network", "tests.support.tiers"]

# Two shared cores: a deadline would measure the neighbours.
settings.register_profile("quick", max_examples=40, deadline=None)
# The laws are the same on an older Python, and the newer one has looked for what breaks them: here
# a few examples show that the code runs at all. `make campaign` looks much farther.
settings.register_profile("older", max_examples=10, deadline=None)
settings.register_profile("campaign", max_examples=3000, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how far hypothesis looks."""
    quick = "older" if sys.version_info < (3, 11) else "quick"
    settings.load_profile("campaign" if config.getoption("--campaign") else quick)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run coroutine tests on asyncio, which is what the product runs on."""
    return "asyncio"


@pytest.fixture
def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    return ports.free_port()


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's own configuration, caches and keys."""
    home: Path = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith("WHIMBREL_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
