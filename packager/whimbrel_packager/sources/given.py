"""What a caller gave as the model, as a file that the conversion's child process can open."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from whimbrel_core.errors import UsageError
from whimbrel_packager import sources


def model_file(
    model: object, folder: Path, options: sources.Options
) -> tuple[Path, sources.Options]:
    """Return the model's file, written into ``folder`` if it was none, with options to open it.

    Raises:
        UsageError: there is no such file, it is a pickle that nobody allowed, or it is no model.
    """
    if isinstance(model, Path | str):
        path = Path(model)
        sources.framework_of(path)
        if not path.is_file():
            raise UsageError(f"there is no model file {path}")
        if path.suffix.lower() in sources.PICKLES and not options.allow_pickle:
            raise UsageError(
                f"{path} is a pickle, and loading one runs whatever code is in it",
                hint="save the model with skops.io.dump, or give --allow-pickle if you made it",
                code="usage.pickle",
            )
        return path, options
    if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
        path = folder / "given.onnx"
        path.write_bytes(model.SerializeToString())
        return path, options
    if hasattr(model, "get_params") and hasattr(model, "predict"):
        import joblib

        path = folder / "given.joblib"
        joblib.dump(model, path)
        # The caller's own object, pickled here: nothing foreign is loaded.
        return path, msgspec.structs.replace(options, allow_pickle=True)
    raise UsageError(
        f"{type(model).__name__} is no model that can be packed",
        hint="give a path, a fitted scikit-learn estimator, or an onnx.ModelProto",
    )


def file(what: object) -> Path | None:
    """Return what a caller gave as a path, or None when it is the thing itself."""
    return Path(what) if isinstance(what, Path | str) else None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and digests of all files of a folder."""
    if path.is_dir():
        whole = hashlib.sha256()
        for name, inner in sorted(
            (inner.relative_to(path).as_posix(), inner) for inner in path.rglob("*")
        ):
            if inner.is_file():
                whole.update(f"{name}\0{digest(inner)}\n".encode())
        return whole.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
