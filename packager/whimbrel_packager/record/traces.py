"""Traces of a training: what is found of a model's lineage where its tools left it.

Those are git, DVC pointers, the environment of MLflow, Weights & Biases, Pachyderm and build servers,
and the files themselves. Nothing is asked over a network, nothing is guessed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from whimbrel_core.errors import UsageError
from whimbrel_packager import folders
from whimbrel_packager.record import checkout as checkouts
from whimbrel_packager.record import dvc, runs
from whimbrel_packager.record.lineage import (
    CODE,
    LABELS,
    LOCK,
    MODEL,
    REFERENCE,
    REFERENCE_FILE,
    UNCOMMITTED,
    WEIGHTS,
    Dependency,
    Lineage,
    public,
)
from whimbrel_packager.sources import given

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_packager.record.checkout import Checkout
    from whimbrel_packager.record.lineage import Origin, Stated
    from whimbrel_packager.reference import Reference

_COLUMNS = "names, types and values of the columns"
_NAMES = "names and digests of the files"
_HEX = {"sha256": 64, "md5": 32}
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def find(
    stated: Stated, *, model: Path | None, data: Path | None, reference: Reference,
    env: Mapping[str, str], others: Mapping[str, Path] | None = None,
) -> Lineage:  # fmt: skip
    """Return what is stated, and what can be found.

    Args:
        stated: the section of the recipe.
        model: the model's file; None when it was given as an object.
        data: file or folder of the reference data; likewise.
        reference: the reference data.
        env: environment variables.
        others: other files that the recipe names, by their keys.

    Raises:
        UsageError: a stated file is not there, or a stated digest or commit is none.
    """
    stated = public(stated)
    code = _code(stated, model) if stated.find else None
    checkout = checkouts.read(code) if code else None
    pointers = {
        name: pointer
        for name, file in ((MODEL, model), (REFERENCE_FILE, data))
        if stated.find and file is not None and (pointer := dvc.find(file))
    }
    listed = [
        *_inputs(model, data, reference, pointers),
        *_code_of(stated, checkout, env if stated.find else {}),
        *_lock(stated),
        *(
            Dependency(key, digest={"sha256": given.digest(path)})
            for key, path in (others or {}).items()
        ),
        *(_stated_data(origin) for origin in stated.data),
        *_stage_inputs(pointers),
        *(_pachyderm(env) if stated.find else ()),
    ]
    found_runs = runs.find(model, code, checkout, env) if stated.find else {}
    made = pointers.get(MODEL)
    return Lineage(
        dependencies=tuple({entry.name: entry for entry in listed}.values()),
        runs=dict(sorted({**found_runs, **stated.runs}.items())),
        seeds=stated.seeds,
        metrics=stated.metrics,
        parameters=made.parameters if made else {},
    )


def notes(lineage: Lineage, *files: Path | None) -> Iterator[str]:
    """Yield what a person should know of a lineage that was found.

    Args:
        lineage: as it is recorded.
        files: the model's and the data's, where they are files.
    """
    code = lineage.dependency(CODE)
    if code is not None and code.annotations.get(UNCOMMITTED):
        yield f"commit {lineage.commit[:12]} is not all of the training code: it has {UNCOMMITTED}"
    for file in files:
        if file is not None and dvc.pointer_of(file).is_file() and dvc.find(file) is None:
            yield f"{dvc.pointer_of(file).name} points to another content, and is not recorded"


def weights(model: Path) -> Iterator[tuple[str, str]]:
    """Yield the files beside an ONNX model that it keeps its weights in, with their digests."""
    if model.suffix.lower() != ".onnx" or not model.is_file():
        return
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception:  # noqa: BLE001 - what is wrong with it is said where it is converted
        return
    names = {
        entry.value
        for tensor in graph.initializer
        if uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    folder = model.resolve().parent
    for name in sorted(names):
        file = (folder / name).resolve()
        if file.is_relative_to(folder) and file.is_file():
            yield name, given.digest(file)


def data_digest(data: Path) -> str:
    """Return the SHA-256 of a file of data, or of the names and digests of those of a folder."""
    if not data.is_dir():
        return given.digest(data)
    return folders.digest((file.name, given.digest(file)) for file in folders.parts(data))


def _code(stated: Stated, model: Path | None) -> Path | None:
    if stated.code:
        folder = Path(stated.code)
        if not folder.is_dir():
            raise UsageError(
                f"lineage.code: there is no folder {folder}",
                hint="give the folder of the training code, from the recipe's own",
            )
        return folder
    if model is not None:
        return model.resolve().parent
    # `pack` was called from a program: the training code itself, when it is kept in git.
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script and Path(script).is_file() and checkouts.tracked(Path(script).resolve()):
        return Path(script).resolve().parent
    return None


def _inputs(
    model: Path | None, data: Path | None, reference: Reference, pointers: Mapping[str, dvc.Pointer]
) -> Iterator[Dependency]:
    if model is not None:
        yield Dependency(
            MODEL,
            digest={"sha256": given.digest(model), **_md5(pointers.get(MODEL))},
            annotations=_of_pointer(pointers.get(MODEL)),
        )
        for name, digest in weights(model):
            yield Dependency(f"{WEIGHTS}{name}", digest={"sha256": digest})
    yield Dependency(
        REFERENCE, digest={"sha256": reference.digest}, annotations={"digest of": _COLUMNS}
    )
    if data is not None:
        yield from _data(data, pointers.get(REFERENCE_FILE))
    if reference.labels_digest:
        yield Dependency(
            LABELS, digest={"sha256": reference.labels_digest}, annotations={"digest of": _COLUMNS}
        )


def _data(data: Path, pointer: dvc.Pointer | None) -> Iterator[Dependency]:
    """Yield the reference data's file, or its folder and each file in it."""
    parts = folders.parts(data) if data.is_dir() else ()
    digests = [(file.name, given.digest(file)) for file in parts]
    said: dict[str, str | int | bool] = {}
    if parts:
        said = {"digest of": _NAMES, "files": len(parts)}
    yield Dependency(
        REFERENCE_FILE,
        digest={
            "sha256": folders.digest(digests) if parts else given.digest(data),
            **_md5(pointer),
        },
        annotations={**said, **_of_pointer(pointer)},
    )
    for name, own in digests:
        yield Dependency(f"{REFERENCE_FILE}: {name}", digest={"sha256": own})


def _code_of(
    stated: Stated, checkout: Checkout | None, env: Mapping[str, str]
) -> Iterator[Dependency]:
    named = env.get("GITHUB_SHA") or env.get("CI_COMMIT_SHA") or ""
    commit = stated.commit or (checkout.commit if checkout else named)
    if not commit:
        return
    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"lineage.commit: {commit!r} is no full git commit id")
    remote = stated.repository or (checkout.remote if checkout else "")
    known = checkout if checkout and checkout.commit == commit else None
    where = f"@refs/heads/{known.branch}" if known and known.branch else f"@{commit}"
    yield Dependency(
        CODE,
        uri=f"git+{remote}{where}" if remote else "",
        digest={"gitCommit": commit},
        # Of a commit that is only named nobody here can tell.
        annotations={UNCOMMITTED: known.dirty} if known else {},
    )


def _lock(stated: Stated) -> Iterator[Dependency]:
    if not stated.lock:
        return
    path = Path(stated.lock)
    if not path.is_file():
        raise UsageError(f"lineage.lock: there is no file {path}")
    yield Dependency(LOCK, digest={"sha256": given.digest(path)})


def _stated_data(origin: Origin) -> Dependency:
    digest = {kind: getattr(origin, kind).lower() for kind in _HEX if getattr(origin, kind)}
    for kind, value in digest.items():
        if not re.fullmatch(f"[0-9a-f]{{{_HEX[kind]}}}", value):
            raise UsageError(f"lineage.data: {value!r} of {origin.name!r} is no {kind}")
    if not digest and not origin.uri:
        raise UsageError(f"lineage.data: {origin.name!r} has neither uri nor digest")
    return Dependency(f"data: {origin.name}", origin.uri, digest)


def _stage_inputs(pointers: Mapping[str, dvc.Pointer]) -> Iterator[Dependency]:
    for pointer in pointers.values():
        for read in pointer.inputs:
            yield Dependency(
                f"dvc: {read.path}",
                uri=f"dvc:{read.path}",
                digest={"md5": read.md5} if read.md5 else {},
                annotations={"stage": pointer.stage,
                             **({"directory": True} if read.directory else {})},
            )  # fmt: skip


def _md5(pointer: dvc.Pointer | None) -> dict[str, str]:
    return {"md5": pointer.output.md5} if pointer else {}


def _of_pointer(pointer: dvc.Pointer | None) -> dict[str, str | int | bool]:
    if pointer is None:
        return {}
    said = {"dvc": pointer.output.path, "stage": pointer.stage, "origin": pointer.output.origin}
    return {name: value for name, value in said.items() if value}


def _pachyderm(env: Mapping[str, str]) -> Iterator[Dependency]:
    """Yield the input commits that a Pachyderm worker states: ``<input>`` and ``<input>_COMMIT``."""
    if "PACH_JOB_ID" not in env:
        return
    for variable in sorted(env):
        name = variable.removesuffix("_COMMIT")
        if name != variable and name in env and env[variable]:
            yield Dependency(f"pachyderm: {name}", uri=f"pachyderm:{name}@{env[variable]}")
