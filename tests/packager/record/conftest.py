"""A project as a data scientist keeps it: a model, its data, and a recipe that says everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.packager.command import whimbrel
from tests.packager.conftest import late_flights
from tests.packager.proving import InProcess
from tests.packager.record.checkouts import git
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """\
name = "flights"
version = "1.0.0"
model = "out/model.skops"
description = "Whether a flight leaves | late."
licence = "apache-2.0"

[data]
reference = "data.npz"
label = "late"
held_out = "held_out"
positive = "true"
units = { wind = "kn", temp = "degF" }

[training]
rounds = "1"
columns = "3"

[lineage]
commit = "0123456789012345678901234567890123456789"
repository = "https://me:secret@code.example/team/flights.git"
lock = "requirements.lock"
seeds = { split = 7, fold = 3 }
metrics = { cv_auc = 0.71 }
runs = { wandb = "team/flights/x7y8", ci = "https://ci.example/1" }
data = [{ name = "raw flights", uri = "https://reader:secret@lake.example/flights?v=7&sig=secret", md5 = "a304afb96060aad90176268345e10355" }]

[gates.quality]
auc = 0.6

[card]
owner = "Delay desk"
contact = "delays@example.org"
intended_use = ["Warn gate staff an hour before."]
out_of_scope = ["Compensation of passengers."]
users = ["Gate staff"]
training_data = "Departures from New York in 2013."
limitations = ["Has seen no winter storms like <2015>."]
tradeoffs = ["A linear model, for speed."]
references = ["https://example.org/paper"]

[[card.ethics]]
risk = "Late crews may be blamed."
mitigation = "Names of crews are not among the inputs."

[[card.ethics]]
risk = "Small airlines are rare in the data."
"""


class Project(NamedTuple):
    folder: Path
    bundle: Path

    @property
    def model(self) -> Path:
        return self.folder / "out" / "model.skops"

    @property
    def data(self) -> Path:
        return self.folder / "data.npz"

    @property
    def key(self) -> Path:
        return self.folder / "keys" / "bundle.pem"


def make_project(folder: Path) -> Project:
    """Write the files of the project; its bundle is not packed yet."""
    table, late = late_flights(600)
    numbers = table[["temp", "wind", "hour"]].fillna(0)
    held_out = np.arange(len(table)) % 3 == 0
    model = make_pipeline(StandardScaler(), LogisticRegression(random_state=11))
    model.fit(numbers[~held_out], late[~held_out])
    (folder / "out").mkdir(parents=True)
    skops.io.dump(model, folder / "out" / "model.skops")
    arrays = {name: numbers[name].to_numpy() for name in numbers}
    np.savez(folder / "data.npz", **arrays, late=late, held_out=held_out)
    (folder / "requirements.lock").write_text("scikit-learn==1\n")
    (folder / "whimbrel.toml").write_text(RECIPE)
    keyfiles.create(folder / "keys", "bundle")
    return Project(folder, folder / "flights-1.0.0.whim")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, packed with its whole record."""
    made = make_project(tmp_path_factory.mktemp("secret-project"))
    with InProcess():
        done = whimbrel(
            "pack", "--recipe", made.folder / "whimbrel.toml", "--key", made.key,
            "--out", made.folder,
        )  # fmt: skip
    assert done.code == 0, done.err
    return made


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout with one committed file and a remote with credentials."""
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "train.py").write_text("fit()\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    git(folder, "remote", "add", "origin", "https://me:secret@code.example/team/models.git")
    return folder
