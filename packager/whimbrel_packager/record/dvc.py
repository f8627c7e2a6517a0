"""DVC: what its pointer files say of a file or folder of data or a model. DVC itself is not needed.

``<file>.dvc`` beside the file, or a stage of a ``dvc.lock`` in a folder above that made it. A
pointer is believed only when the file is the one it points to.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_POINTER_BYTES = 16 << 20
_MAX_DEPTH = 16
_DIRECTORY = ".dir"  # what DVC puts behind the digest of a folder's listing


class Output(NamedTuple):
    """A file that DVC keeps.

    Args:
        path: from the folder of the pointer file.
        md5: hexadecimal; "" when DVC knows it by a version of its storage only.
        directory: whether the digest is that of a folder's listing.
        origin: URL of the repository that it was imported from, with ``@revision``; or "".
    """

    path: str
    md5: str
    directory: bool
    origin: str = ""


class Pointer(NamedTuple):
    """What DVC says of one file.

    Args:
        output: the file itself.
        stage: of the pipeline that made it; "" when it was added.
        inputs: what the stage read.
        parameters: with which the stage ran, by name.
    """

    output: Output
    stage: str
    inputs: tuple[Output, ...]
    parameters: dict[str, str | int | float | bool | None]


def pointer_of(file: Path) -> Path:
    """Return where DVC keeps the pointer to a file that was added to it."""
    file = file if file.name else file.resolve()  # the folder that one stands in
    return file.with_name(f"{file.name}.dvc")


def find(file: Path) -> Pointer | None:
    """Return what DVC says of a file, or None when it says nothing, or speaks of another content."""
    file = file.resolve()
    for pointer in (_added(file), _made(file)):
        if pointer is not None and pointer.output.md5 and _is(file, pointer.output.md5):
            return pointer
    return None


def _added(file: Path) -> Pointer | None:
    tree = _read(pointer_of(file))
    for entry in _entries(tree.get("outs")):
        if PurePosixPath(str(entry.get("path", ""))).name == file.name:
            origin = next((_origin(dep) for dep in _entries(tree.get("deps"))), "")
            return Pointer(_output(entry)._replace(origin=origin), "", (), {})
    return None


def _made(file: Path) -> Pointer | None:
    for folder in list(file.parents)[:_MAX_DEPTH]:
        stages = _read(folder / "dvc.lock").get("stages")
        for name, stage in stages.items() if isinstance(stages, dict) else ():
            if not isinstance(stage, dict):
                continue
            for entry in _entries(stage.get("outs")):
                if (folder / str(entry.get("path", ""))).resolve() == file:
                    inputs = tuple(_output(dep) for dep in _entries(stage.get("deps")))
                    return Pointer(
                        _output(entry), str(name), inputs, dict(_flat(stage.get("params")))
                    )
        if (folder / ".git").exists() or (folder / ".dvc").is_dir():
            break  # no repository reaches beyond its own folder
    return None


def _output(entry: dict[str, Any]) -> Output:
    md5 = str(entry.get("md5") or "")
    path = PurePosixPath(str(entry.get("path", "")))
    # A path outside the repository says where something was on one machine.
    shown = path.name if path.is_absolute() or ".." in path.parts else str(path)
    directory = md5.endswith(_DIRECTORY)
    return Output(shown, md5.removesuffix(_DIRECTORY), directory)


def _origin(entry: dict[str, Any]) -> str:
    from whimbrel_packager.record.checkout import public_url

    repository = entry.get("repo")
    if not isinstance(repository, dict):
        return ""
    url = public_url(str(repository.get("url", "")))
    revision = str(repository.get("rev_lock") or "")
    return f"{url}@{revision}" if url and revision else url


def _flat(params: object) -> Iterator[tuple[str, str | int | float | bool | None]]:
    """Yield the parameters of a stage by dotted name, without the file that they stand in."""
    for values in params.values() if isinstance(params, dict) else ():
        yield from _leaves(values, "")


def _leaves(values: object, prefix: str) -> Iterator[tuple[str, str | int | float | bool | None]]:
    for name, value in values.items() if isinstance(values, dict) else ():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{dotted}.")
        elif isinstance(value, str | int | float | bool | None):
            yield dotted, value


def _entries(value: object) -> Iterator[dict[str, Any]]:
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict):
            yield entry


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_POINTER_BYTES:
            return {}
        tree = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _is(file: Path, md5: str) -> bool:
    if file.is_dir():
        return _md5_of_folder(file) == md5
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        if (
            hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            == md5
        ):
            return True
    # DVC before 3.0 counted the line ends of text files as those of Unix.
    data = file.read_bytes()
    unix = data.replace(b"\r\n", b"\n")
    return unix != data and hashlib.md5(unix, usedforsecurity=False).hexdigest() == md5


def _md5_of_folder(folder: Path) -> str:
    """Return the digest of what DVC lists of a folder: its files' digests, by path."""
    listed = []
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as opened:
                own = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False))
            listed.append({"md5": own.hexdigest(), "relpath": path.relative_to(folder).as_posix()})
    listed.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()
