"""What a caller gave as the model, as a file that the conversion's child process can open."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import UsageError
from whimbrel_packager import sources

if TYPE_CHECKING:
    from whimbrel_packager.frame import Frame


def model_file(
    model: object, folder: Path, options: sources.Options, frame: Frame
) -> tuple[Path, sources.Options]:
    """Return the model's file, written into ``folder`` if it was none, with options to open it.

    Args:
        model: a path, or the caller's own model.
        folder: where a file is made of it.
        options: of the recipe.
        frame: reference data; a network's code is followed with some of its rows.

    Raises:
        UsageError: there is no such file, it is a pickle that nobody allowed, or it is no model.
        ConversionError: a network's code cannot be made a graph.
    """
    if isinstance(model, Path | str):
        path = Path(model)
        sources.framework_of(path)
        if (
            not path.is_file()
            and not sources.is_saved_model(path)
            and not sources.is_mlflow_model(path)
        ):
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
    booster = _booster_file(model, folder)
    if booster is not None:
        return booster, options
    network = _network_file(model, folder, options, frame)
    if network is not None:
        return network, msgspec.structs.replace(options, allow_pickle=True)
    if hasattr(model, "get_params") and hasattr(model, "predict"):
        import joblib

        path = folder / "given.joblib"
        joblib.dump(model, path)
        # The caller's own object, pickled here: nothing foreign is loaded.
        return path, msgspec.structs.replace(options, allow_pickle=True)
    if type(model).__name__ == "LocalOutlierFactor":
        raise UsageError(
            "LocalOutlierFactor(novelty=False) knows the outliers among its training rows alone",
            hint="fit LocalOutlierFactor(novelty=True), which judges new rows",
        )
    if hasattr(model, "get_params"):
        raise UsageError(
            f"{type(model).__name__} has no predict() to be converted",
            hint="pack a classifier, a regressor, an outlier detector, or a pipeline ending in one",
        )
    raise UsageError(
        f"{type(model).__name__} is no model that can be packed",
        hint="give a path, a fitted scikit-learn estimator, a PyTorch module, a Keras model, or an "
        "onnx.ModelProto",
    )


def _booster_file(model: object, folder: Path) -> Path | None:
    """Return a caller's own bare booster as a file; None if it is none."""
    if type(model).__name__ != "Booster" or not sources.booster_of(model):
        return None  # wrappers know more than their files hold
    path = folder / ("given.ubj" if sources.booster_of(model) == "xgboost" else "given.txt")
    model.save_model(str(path))  # type: ignore[attr-defined]
    return path


def _network_file(
    model: object, folder: Path, options: sources.Options, frame: Frame
) -> Path | None:
    """Return a caller's own network as a file; None if it is none, or its framework not loaded."""
    if "torch" in sys.modules:
        from whimbrel_packager.sources import torch

        path = torch.given_file(model, frame, folder, options)
        if path is not None:
            return path
    if "keras" in sys.modules:
        from whimbrel_packager.sources import keras

        return keras.given_file(model, folder)
    return None


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
