"""A token for the session: a PKCS#11 module is initialised once in a process."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.softhsm import Token, make_token
from whimbrel_packager.signing import hsm

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A token with the P-256 keys bundle and targets, made on it."""
    if shutil.which("softhsm2-util") is None:
        pytest.skip("not on PATH: softhsm2-util")
    pytest.importorskip("pkcs11")
    made = make_token(tmp_path_factory.mktemp("token"))
    for name in ("bundle", "targets"):
        hsm.generate(hsm.parse(made.uri(name)), hsm.Pin(made.pin))
    yield made
    del os.environ["SOFTHSM2_CONF"]
