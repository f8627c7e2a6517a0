from __future__ import annotations

import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import whimbrel_packager
from tests.packager.command import Done, whimbrel
from tests.packager.conftest import late_flights
from tests.packager.proving import InProcess
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import signature
from whimbrel_core.bundle.archive import Archive
from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager import rebuild
from whimbrel_packager.record import provenance
from whimbrel_packager.signing import keyfiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.packager.conftest import Packed
    from tests.packager.record.conftest import Project


def again(project: Project, bundle: Path | None = None, *words: object) -> Done:
    with InProcess():
        return whimbrel(
            "rebuild", bundle or project.bundle, "--model", project.model,
            "--reference", project.data, *words,
        )  # fmt: skip


def changed(project: Project, target: Path, **files: bytes) -> Path:
    """Write the project's bundle with other content of some files, signed again."""
    held = Archive(io.BytesIO(project.bundle.read_bytes()))
    whole = {name: held.read(name) for name in held.names if name != signature.FILE}
    names = {name.replace(".", "_"): name for name in whole}
    whole |= {names[name]: data for name, data in files.items()}
    target.write_bytes(bundles.build(whole, keyfiles.private(project.key)))
    return target


def record_of(project: Project) -> dict[str, Any]:
    held = Archive(io.BytesIO(project.bundle.read_bytes()))
    loaded: dict[str, Any] = json.loads(held.read(bundles.PROVENANCE))
    return loaded


def test_a_bundle_is_made_again_byte_for_byte_with_its_signature(project: Project) -> None:
    before = sorted(project.folder.iterdir())
    done = again(project, None, "--key", project.key, "--trust", project.key, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["same"] is True
    assert (told["files"], told["differences"], told["versions"]) == (7, [], [])
    assert told["signature"] == "same"
    assert told["verified_by"] == keyfiles.public(project.key).id
    assert sorted(project.folder.iterdir()) == before


def test_without_a_key_all_but_the_signature_is_compared_and_that_is_said(project: Project) -> None:
    done = again(project)
    assert done.code == 0, done.err
    assert "the same: flights 1.0.0, 7 files" in done.out
    assert "signature  not made again (give --key)" in done.out
    assert "not verified (give --trust)" in done.out


def test_another_key_makes_another_signature(project: Project, tmp_path: Path) -> None:
    _, stranger = keyfiles.create(tmp_path, "stranger")
    done = again(project, None, "--key", stranger)
    assert done.code == 5
    assert "signature  differs" in done.out
    assert "all files are the same, the signature is not" in done.out


def test_a_bundle_that_no_trusted_key_vouches_for_is_not_followed(
    project: Project, tmp_path: Path
) -> None:
    _, stranger = keyfiles.create(tmp_path, "stranger")
    done = again(project, None, "--trust", stranger.with_suffix(".pub"))
    assert done.code == 4
    assert "checking what is given" not in done.err


def test_another_model_is_named_before_anything_is_converted(
    project: Project, tmp_path: Path
) -> None:
    other = tmp_path / "model.skops"
    other.write_bytes(project.model.read_bytes() + b"\0")
    done = whimbrel("rebuild", project.bundle, "--model", other, "--reference", project.data)
    assert done.code == 3
    assert f"the model {other} is not what flights-1.0.0 was packed from: sha256" in done.err
    assert "[input.rebuild]" in done.err
    assert "converting" not in done.err


def test_other_data_is_named_before_anything_is_converted(project: Project, tmp_path: Path) -> None:
    with np.load(project.data) as held:
        columns = dict(held)
    columns["wind"][5] += 0.5
    np.savez(tmp_path / "data.npz", **columns)
    done = whimbrel(
        "rebuild", project.bundle, "--model", project.model, "--reference", tmp_path / "data.npz"
    )
    assert done.code == 3
    assert f"the reference data {tmp_path / 'data.npz'} is not what flights-1.0.0" in done.err


def test_the_same_data_in_another_file_is_good_enough_and_said(
    project: Project, tmp_path: Path
) -> None:
    with np.load(project.data) as held:
        np.savez_compressed(tmp_path / "other.npz", **dict(held))
    shutil.copy(project.model, tmp_path / "renamed.skops")
    with InProcess():
        done = rebuild.rebuild(project.bundle, tmp_path / "renamed.skops", tmp_path / "other.npz")
    assert done.same
    assert "is another file than the recorded one, with the same columns" in " ".join(done.notes)


def test_a_changed_file_is_named_with_what_differs_in_it(project: Project, tmp_path: Path) -> None:
    held = Archive(io.BytesIO(project.bundle.read_bytes()))
    manifest = msgspec.json.decode(held.read(bundles.MANIFEST))
    manifest["metrics"]["auc"] = 0.99
    bundle = changed(
        project, tmp_path / "better.whim",
        manifest_json=json.dumps(manifest).encode(), card_md=b"# Trust me\n",
    )  # fmt: skip
    done = again(project, bundle, "--json")
    assert done.code == 5
    told = json.loads(done.out)
    assert told["same"] is False
    found = {entry["file"]: entry["what"] for entry in told["differences"]}
    assert set(found) == {bundles.MANIFEST, bundles.CARD}
    assert "metrics.auc" in found[bundles.MANIFEST]
    assert told["versions"] == []
    assert "all recorded versions are those of this machine" in " ".join(told["notes"])


def test_versions_that_differ_from_the_recorded_ones_are_listed(
    project: Project, tmp_path: Path
) -> None:
    record = record_of(project)
    environment = record["predicate"]["buildDefinition"]["internalParameters"]["environment"]
    environment["packages"]["scikit-learn"] = "0.9"
    environment["packages"]["gone"] = "1.0"
    environment["python"] = "2.7"
    bundle = changed(project, tmp_path / "old.whim", provenance_json=json.dumps(record).encode())
    done = again(project, bundle)
    assert done.code == 5
    assert "NOT the same: flights 1.0.0; 1 files differ, 6 do not" in done.out
    assert "differs    provenance.json" in done.out
    assert "0.9 recorded" in done.out
    assert "gone (none) here, 1.0 recorded" in done.out
    assert "2.7 recorded" in done.out


@pytest.mark.parametrize(
    ("change", "code", "complaint"),
    [
        (lambda r: r["predicate"]["buildDefinition"]["externalParameters"].clear(), 3,
         "no recipe is recorded"),
        (lambda r: r["predicate"].clear(), 3, "its provenance is malformed"),
        (lambda r: r.update(predicateType="x"), 3, "its provenance is of another kind"),
        (lambda r: r["predicate"]["buildDefinition"]["externalParameters"]["recipe"].update(new=1),
         2, "does not know all of its recipe"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_followed_is_refused(
    project: Project,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    code: int,
    complaint: str,
) -> None:
    record = record_of(project)
    change(record)
    bundle = changed(project, tmp_path / "b.whim", provenance_json=json.dumps(record).encode())
    done = again(project, bundle)
    assert done.code == code
    assert complaint in done.err


def test_what_cannot_be_read_is_named(project: Project, tmp_path: Path) -> None:
    done = whimbrel("rebuild", tmp_path / "no.whim", "--model", "m", "--reference", "d")
    assert (done.code, "no.whim cannot be read" in done.err) == (2, True)
    (tmp_path / "cut.whim").write_bytes(project.bundle.read_bytes()[:-100])
    done = whimbrel("rebuild", tmp_path / "cut.whim", "--model", "m", "--reference", "d")
    assert done.code == 3
    done = whimbrel("rebuild", project.bundle, "--model", "m.skops", "--reference", project.data)
    assert (done.code, "there is no model file m.skops" in done.err) == (2, True)


def test_a_bundle_gives_nobody_leave_to_load_a_pickle(packed: Packed) -> None:
    words = ("rebuild", packed.bundle, "--model", packed.model, "--reference", packed.data)
    with InProcess():
        refused = whimbrel(*words)
        allowed = whimbrel(*words, "--allow-pickle", "--key", packed.key)
    assert refused.code == 2
    assert "[usage.pickle]" in refused.err
    assert allowed.code == 0, allowed.out + allowed.err


def test_what_was_packed_from_memory_is_made_again_from_python(
    packed: Packed, tmp_path: Path
) -> None:
    table, late = late_flights(400)
    numbers = table[["temp", "hour"]]
    model = LogisticRegression(random_state=5).fit(numbers, late)
    key = keyfiles.private(packed.key)
    with InProcess():
        path = whimbrel_packager.pack(
            model, numbers, late, name="simple", version="0.1.0", key=key, out=tmp_path,
            params={"b": "2", "a": "1"},
        ).path  # fmt: skip
        done = rebuild.rebuild(path, model, numbers, late, key=key)
        assert (done.same, done.signature, done.differences) == (True, "same", ())
        with pytest.raises(InputError, match="y, the labels apart from the data"):
            rebuild.rebuild(path, model, numbers, ~late)
        joblib.dump(model, tmp_path / "model.joblib")
        with pytest.raises(UsageError, match="pickle"):
            rebuild.rebuild(path, tmp_path / "model.joblib", numbers, late)
        allowed = rebuild.Permissions(allow_pickle=True)
        done = rebuild.rebuild(path, tmp_path / "model.joblib", numbers, late, permissions=allowed)
    assert done.same
    assert any("packed from memory" in note for note in done.notes)


def test_the_record_says_what_it_was_told(project: Project) -> None:
    held = Archive(io.BytesIO(project.bundle.read_bytes()))
    record = provenance.read(held.read(bundles.PROVENANCE), what="it")
    assert record.recipe["lineage"]["lock"] == "requirements.lock"
    assert record.recipe["lineage"]["code"] == ""
    assert record.occasion.lineage.commit == "0123456789012345678901234567890123456789"
    assert record.occasion.measured is not None
    assert record.environment.packages["whimbrel-core"] == record.tool


def test_a_recipe_leads_to_no_file_outside_the_folder_that_was_given(
    project: Project, tmp_path: Path
) -> None:
    held = Archive(io.BytesIO(project.bundle.read_bytes()))
    record = provenance.read(held.read(bundles.PROVENANCE), what="it")
    for path in ("../../etc/passwd", "/etc/passwd"):
        record.recipe["optimise"]["predecessor"] = path
        recipe = rebuild._recipe(record, project.bundle, tmp_path)
        assert recipe.optimise.predecessor == str(tmp_path / "passwd")
