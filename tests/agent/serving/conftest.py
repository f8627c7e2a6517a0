"""Bundles made once, and a control for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import models
from tests.support.worker import FakeControl
from whimbrel_core.signing.keys import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.models import MadeBundle


@pytest.fixture(scope="session")
def publisher() -> PrivateKey:
    """The key that signs the bundles of a test run."""
    return PrivateKey.generate()


@pytest.fixture(scope="session")
def churn(tmp_path_factory: pytest.TempPathFactory, publisher: PrivateKey) -> MadeBundle:
    """A logistic regression over a matrix of 20 numbers."""
    folder = tmp_path_factory.mktemp("churn")
    return models.build_bundle(folder, models.logistic(), key=publisher, min_rows=5)


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory, publisher: PrivateKey) -> MadeBundle:
    """A classifier over named columns: FP32, INT64, BYTES."""
    folder = tmp_path_factory.mktemp("flights")
    return models.build_bundle(folder, models.mixed(), name="flights", key=publisher)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[FakeControl]:
    """A control with a data directory of its own; its workers end with the test."""
    made = FakeControl(tmp_path / "data", listen_unix=True)
    yield made
    made.close()
