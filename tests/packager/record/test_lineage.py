"""What is found of where a model comes from: code, data, runs, and what is only stated."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.packager.record.checkouts import git, needs_git
from whimbrel_core.errors import UsageError
from whimbrel_packager.frame import Frame
from whimbrel_packager.record import checkout, dvc, lineage, runs, traces
from whimbrel_packager.record.lineage import Origin, Stated
from whimbrel_packager.reference import Reference, digest_of_frame

if TYPE_CHECKING:
    from pathlib import Path

RUN = "0123456789abcdef0123456789abcdef"


def reference(value: float = 1.0) -> Reference:
    frame = Frame({"a": np.array([value, 2.0])})
    return Reference(frame, None, None, digest_of_frame(frame))


def found(
    stated: Stated | None = None,
    model: Path | None = None,
    data: Path | None = None,
    **env: str,
) -> lineage.Lineage:
    return traces.find(stated or Stated(), model=model, data=data, reference=reference(), env=env)


@needs_git
def test_the_code_is_found_from_the_models_folder_and_its_state_is_said(repository: Path) -> None:
    model = repository / "out" / "model.skops"
    model.parent.mkdir()
    model.write_bytes(b"model")
    known = found(model=model)
    code = known.dependency(lineage.CODE)
    assert code is not None
    assert code.uri == "git+https://code.example/team/models.git@refs/heads/main"
    assert code.digest == {"gitCommit": git(repository, "rev-parse", "HEAD")}
    assert code.annotations == {lineage.UNCOMMITTED: False}
    assert known.digest(lineage.MODEL) == hashlib.sha256(b"model").hexdigest()


@needs_git
def test_what_makes_a_lineage_less_than_it_seems_is_noted(repository: Path) -> None:
    data = repository / "data.npz"
    data.write_bytes(b"changed since")
    (repository / "data.npz.dvc").write_text(f"outs:\n- md5: {'ab' * 16}\n  path: data.npz\n")
    (repository / "train.py").write_text("fit(more)\n")
    known = found(Stated(code=str(repository)), data=data)
    told = list(traces.notes(known, None, data))
    assert told == [
        f"commit {known.commit[:12]} is not all of the training code: it has uncommitted changes",
        "data.npz.dvc points to another content, and is not recorded",
    ]


@needs_git
def test_a_stated_commit_goes_before_the_checkouts_whose_state_then_tells_nothing(
    repository: Path,
) -> None:
    code = found(Stated(code=str(repository), commit="ab" * 20)).dependency(lineage.CODE)
    assert code is not None
    assert code.digest == {"gitCommit": "ab" * 20}
    assert code.uri.endswith("models.git@" + "ab" * 20)
    assert code.annotations == {}


def test_a_build_server_states_the_commit_where_there_is_no_checkout(tmp_path: Path) -> None:
    model = tmp_path / "model.skops"
    model.write_bytes(b"")
    assert found(model=model, GITHUB_SHA="cd" * 20).commit == "cd" * 20
    assert found(model=model, CI_COMMIT_SHA="ef" * 20).commit == "ef" * 20
    assert found(Stated(find=False), model=model, GITHUB_SHA="cd" * 20).commit == ""
    assert found(model=model).dependency(lineage.CODE) is None


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        (Stated(commit="main"), "'main' is no full git commit id"),
        (Stated(lock="missing.lock"), "there is no file missing.lock"),
        (Stated(code="/nowhere"), "there is no folder /nowhere"),
        (Stated(data=(Origin("raw"),)), "'raw' has neither uri nor digest"),
        (Stated(data=(Origin("raw", sha256="abc"),)), "'abc' of 'raw' is no sha256"),
    ],
)
def test_what_is_stated_wrongly_is_named(stated: Stated, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        found(stated)


def test_stated_lock_data_and_runs_are_recorded(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2\n")
    known = found(
        Stated(
            lock=str(lock),
            data=(Origin("raw", uri="s3://lake/raw@v7", md5="AB" * 16),),
            runs={"mlflow": RUN},
            seeds={"split": 7},
        ),
        MLFLOW_RUN_ID="another",
        WANDB_RUN_ID="w1",
        WANDB_PROJECT="flights",
    )
    assert known.digest(lineage.LOCK) == hashlib.sha256(b"numpy==2\n").hexdigest()
    raw = known.dependency("data: raw")
    assert raw is not None
    assert (raw.uri, raw.digest) == ("s3://lake/raw@v7", {"md5": "ab" * 16})
    assert known.runs == {"mlflow": RUN, "wandb": "flights/w1"}
    assert known.seeds == {"split": 7}


def test_labels_that_were_given_apart_have_a_digest_of_their_own() -> None:
    data = {"a": np.arange(4.0)}
    one, two = (Reference.read(data, y, "", "") for y in ([0, 1, 0, 1], [1, 1, 0, 1]))
    assert one.digest == two.digest
    assert one.labels_digest != two.labels_digest
    known = traces.find(Stated(), model=None, data=None, reference=one, env={})
    assert known.digest(lineage.LABELS) == one.labels_digest


def dvc_file(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_a_dvc_pointer_beside_the_data_is_read(tmp_path: Path) -> None:
    md5 = dvc_file(tmp_path / "data.npz", b"data")
    (tmp_path / "data.npz.dvc").write_text(
        f"outs:\n- md5: {md5}\n  size: 4\n  hash: md5\n  path: data.npz\n"
        "deps:\n- path: raw/data.npz\n  repo:\n    url: https://u:p@code.example/registry\n"
        "    rev_lock: 0123abc\n"
    )
    entry = found(data=tmp_path / "data.npz").dependency(lineage.REFERENCE_FILE)
    assert entry is not None
    assert entry.digest["md5"] == md5
    assert entry.annotations == {
        "dvc": "data.npz",
        "origin": "https://code.example/registry@0123abc",
    }


def test_a_dvc_pointer_to_another_content_is_not_believed(tmp_path: Path) -> None:
    md5 = dvc_file(tmp_path / "data.npz", b"data")
    (tmp_path / "data.npz.dvc").write_text(f"outs:\n- md5: {md5}\n  path: data.npz\n")
    (tmp_path / "data.npz").write_bytes(b"changed since")
    assert dvc.find(tmp_path / "data.npz") is None


def test_text_that_an_older_dvc_counted_with_unix_line_ends_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\r\n1,2\r\n")
    md5 = hashlib.md5(b"a,b\n1,2\n", usedforsecurity=False).hexdigest()
    (tmp_path / "a.csv.dvc").write_text(f"outs:\n- md5: {md5}\n  path: a.csv\n")
    assert dvc.find(tmp_path / "a.csv") is not None


def test_the_stage_of_a_dvc_lock_gives_inputs_and_parameters(tmp_path: Path) -> None:
    md5 = dvc_file(tmp_path / "out" / "model.skops", b"model")
    (tmp_path / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train:\n    cmd: python train.py\n"
        "    deps:\n    - path: data/raw\n      hash: md5\n"
        f"      md5: {'ab' * 16}.dir\n      nfiles: 2\n    - path: train.py\n      md5: {'cd' * 16}\n"
        "    params:\n      params.yaml:\n        train.seed: 11\n        train:\n          depth: 6\n"
        "          rate: 0.1\n          sizes: [1, 2]\n"
        f"    outs:\n    - path: out/model.skops\n      md5: {md5}\n"
    )
    known = found(model=tmp_path / "out" / "model.skops")
    raw = known.dependency("dvc: data/raw")
    assert raw is not None
    assert raw.digest == {"md5": "ab" * 16}
    assert raw.annotations == {"stage": "train", "directory": True}
    assert known.dependency("dvc: train.py") is not None
    assert known.parameters == {"train.seed": 11, "train.depth": 6, "train.rate": 0.1}
    assert lineage.seeds_in(known.parameters) == {"train.seed": 11}
    model = known.dependency(lineage.MODEL)
    assert model is not None
    assert model.annotations == {"dvc": "out/model.skops", "stage": "train"}


def test_a_dvc_lock_above_the_repository_is_not_asked(tmp_path: Path) -> None:
    md5 = dvc_file(tmp_path / "project" / "model.skops", b"model")
    (tmp_path / "dvc.lock").write_text(
        f"stages:\n  train:\n    outs:\n    - path: project/model.skops\n      md5: {md5}\n"
    )
    assert dvc.find(tmp_path / "project" / "model.skops") is not None
    (tmp_path / "project" / ".dvc").mkdir()
    assert dvc.find(tmp_path / "project" / "model.skops") is None


@pytest.mark.parametrize(
    "text",
    ["", "[", "outs: 3", "outs: [3]", "outs:\n- path: a.csv\n", "!!python/object:os.system x",
     "outs:\n- {path: a.csv, md5: 5}\n", "\x00"],
)  # fmt: skip
def test_a_dvc_pointer_that_says_nothing_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "a.csv.dvc").write_text(text)
    (tmp_path / "dvc.lock").write_text(text)
    assert dvc.find(tmp_path / "a.csv") is None


@pytest.mark.parametrize(
    ("env", "known"),
    [
        ({}, {}),
        ({"MLFLOW_RUN_ID": RUN}, {"mlflow": RUN}),
        (
            {"WANDB_RUN_ID": "w1", "WANDB_PROJECT": "p", "WANDB_ENTITY": "e"},
            {"wandb": "e/p/w1"},
        ),
        ({"WANDB_PROJECT": "p"}, {}),
        (
            {"GITHUB_SERVER_URL": "https://h.example", "GITHUB_REPOSITORY": "t/m",
             "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2"},
            {"github": "https://h.example/t/m/actions/runs/7/attempts/2"},
        ),
        ({"CI_JOB_URL": "https://h.example/j/1", "CI_PIPELINE_URL": "x"},
         {"gitlab": "https://h.example/j/1"}),
        ({"BUILD_URL": "https://h.example/b/1"}, {"jenkins": "https://h.example/b/1"}),
        ({"PACH_JOB_ID": "j1"}, {"pachyderm": "j1"}),
    ],
)  # fmt: skip
def test_runs_are_read_from_the_environment(env: dict[str, str], known: dict[str, str]) -> None:
    assert runs.find(None, None, None, env) == known


def test_a_model_in_a_runs_folder_belongs_to_that_run(tmp_path: Path) -> None:
    places = {
        tmp_path / "mlruns" / "1" / RUN / "artifacts" / "model" / "m.skops": {"mlflow": RUN},
        tmp_path / "mlruns" / "1" / "models" / f"m-{RUN}" / "artifacts" / "m.skops": {
            "mlflow": f"m-{RUN}"
        },
        tmp_path / "mlruns" / "1" / "notes" / "m.skops": {},
        tmp_path / "wandb" / "run-20260102_030405-x7y8" / "files" / "m.skops": {"wandb": "x7y8"},
    }
    for path, known in places.items():
        assert runs.find(path, None, None, {}) == known


@needs_git
def test_the_latest_run_of_wandb_is_taken_when_it_ran_this_commit(repository: Path) -> None:
    home = repository / "wandb" / "run-20260102_030405-x7y8"
    (home / "files").mkdir(parents=True)
    (repository / "wandb" / "latest-run").symlink_to(home.name)
    state = checkout.read(repository)
    assert state is not None
    metadata = home / "files" / "wandb-metadata.json"
    for commit, known in ((state.commit, {"wandb": "x7y8"}), ("ab" * 20, {})):
        metadata.write_text(json.dumps({"git": {"commit": commit}, "host": "h"}))
        assert runs.find(None, repository, state, {}) == known
    metadata.write_text(json.dumps({"git": {"commit": state.commit}}))
    assert runs.find(None, repository, state._replace(dirty=True), {}) == {}
    shutil.rmtree(home)
    assert runs.find(None, repository, state, {}) == {}


def test_a_pachyderm_worker_states_the_commits_of_its_inputs() -> None:
    env = {"PACH_JOB_ID": "j1", "flights": "/pfs/flights/x.csv", "flights_COMMIT": "c9",
           "OTHER_COMMIT": "no input of that name"}  # fmt: skip
    known = traces.find(Stated(), model=None, data=None, reference=reference(), env=env)
    assert [d.uri for d in known.dependencies if d.name.startswith("pachyderm")] == [
        "pachyderm:flights@c9"
    ]
    del env["PACH_JOB_ID"]
    known = traces.find(Stated(), model=None, data=None, reference=reference(), env=env)
    assert not [d for d in known.dependencies if d.name.startswith("pachyderm")]
