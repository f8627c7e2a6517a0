"""Sources: what models are made with. One file per framework, and this registry.

A source is opened inside the conversion's child process only (`convert_child`): loading a model
may run foreign code, take for ever, or crash.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import msgspec

from whimbrel_core.bundle.manifest import Task
from whimbrel_core.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources.thresholds import Thresholds

FRAMEWORKS = {
    ".onnx": "onnx",
    ".skops": "sklearn",
    ".joblib": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".pt2": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".keras": "keras",
    ".ubj": "xgboost",
    ".cbm": "catboost",
}
# More than one framework writes these: what is in the file tells.
SHARED = (".json", ".txt", ".model", ".bin")
BOOSTERS = ("xgboost", "lightgbm", "catboost")
PICKLES = (".joblib", ".pkl", ".pickle")


class Options(msgspec.Struct, frozen=True):
    """What a person says about the model to be converted.

    Args:
        allow_pickle: whether a pickle may be loaded, and so run any code it holds.
        trusted: types that a skops file may hold beyond scikit-learn's own.
        task: for sources that do not say it themselves (raw ONNX).
        classes: class names by index, likewise.
        matrix_input: name of the one matrix input of a converted model.
        output: what the numbers of a network's main output are. ``logits`` get a softmax (one
            number a row: a sigmoid), so that devices see probabilities and a label; "": seen from
            the numbers, or asked for.
        main_output: name of that output; "": the first. The others are handed on as they are.
    """

    allow_pickle: bool = False
    trusted: tuple[str, ...] = ()
    task: str = ""
    classes: tuple[str, ...] = ()
    matrix_input: str = "features"
    output: Literal["", "logits", "probabilities", "value"] = ""
    main_output: str = ""


class Description(msgspec.Struct, frozen=True):
    """What a source says of itself once it is converted.

    Args:
        matrix: name of the one (n, F) input, or None for one input per column.
        columns: the columns it reads, in order.
        roles: by output name, as in the manifest.
        classes: class names by index: what `str` of the label output's values gives.
        boolean: whether the classes are False and True.
        detector: whether it tells outliers (class -1) from inliers (class 1).
        rewrites: what had to be done differently from the plain conversion, by name.
        notes: what a person should know of how the model was read.
        remedy: what to do instead when it turns out not to be exact; "": as the case suggests.
        lineage: where the model comes from, as the source has it: ``mlflow.run`` and so on.
        converter: name of the converter, with its version.
    """

    framework: str
    framework_version: str
    estimator: str
    converter: str
    converter_version: str
    task: Task
    columns: tuple[str, ...]
    roles: dict[str, str]
    matrix: str | None = None
    classes: tuple[str, ...] = ()
    boolean: bool = False
    rewrites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    detector: bool = False
    remedy: str = ""
    lineage: dict[str, str] = {}


class Source(Protocol):
    """An opened model."""

    @property
    def estimator(self) -> str:
        """Its name, for messages."""

    def columns(self, frame: Frame) -> tuple[str, ...]:
        """Return the columns of ``frame`` that the model reads, in its order."""

    def convert(self, frame: Frame) -> tuple[Any, Description]:
        """Return the model as an `onnx.ModelProto`, with what it is."""

    def predict(self, frame: Frame) -> dict[str, np.ndarray[Any, Any]]:
        """Return the source's own outputs by the converted model's output names.

        Raises:
            ValueError, TypeError: the source does not accept these rows.
        """

    def thresholds(self) -> Thresholds:
        """Return the thresholds of its trees, as the framework holds them."""


@runtime_checkable
class Rewriting(Source, Protocol):
    """A source that knows other ways to convert, for when the plain one fails or is not exact."""

    def attempts(self, frame: Frame) -> tuple[tuple[str, ...], ...]:
        """Return names of rewrites by attempt, likely ones first; the very first is ``()``.

        Every attempt costs a conversion and a proof: name those alone that may help this model.
        """

    def convert(self, frame: Frame, rewrites: tuple[str, ...] = ()) -> tuple[Any, Description]:
        """Return the model converted with one attempt's rewrites, and them in the description."""


def is_saved_model(path: Path) -> bool:
    """Return whether a path is a folder that TensorFlow has saved a model in."""
    return (path / "saved_model.pb").is_file()


def is_mlflow_model(path: Path) -> bool:
    """Return whether a path is a folder that MLflow has saved a model in."""
    return (path / "MLmodel").is_file()


def framework_of(path: Path) -> str:
    """Return the framework of a model by its name, or by its content where the name is shared.

    Raises:
        UsageError: no framework writes such a model, or the file is not there.
    """
    if is_saved_model(path):
        return "keras"
    if is_mlflow_model(path):
        return "mlflow"
    suffix = path.suffix.lower()
    if suffix in FRAMEWORKS:
        return FRAMEWORKS[suffix]
    if suffix in SHARED:
        from whimbrel_packager.sources import contents

        return contents.framework(path)
    if path.is_dir():
        raise UsageError(
            f"the folder {path} is no model: it has neither an MLmodel of MLflow nor a "
            "saved_model.pb of TensorFlow",
            hint="give the model's own folder or file",
        )
    raise UsageError(
        f"{path}: a model file ends in {', '.join([*FRAMEWORKS, *SHARED])}",
        hint="save a scikit-learn model with skops.io.dump, or export another one to ONNX",
    )


def booster_of(model: object) -> str:
    """Return the boosting framework that a loaded model is of, or ""."""
    packages = (type_.__module__.partition(".")[0] for type_ in type(model).__mro__)
    return next((name for name in packages if name in BOOSTERS), "")


def of_object(model: object, options: Options) -> Source:
    """Open a model that a pickle or a skops file held."""
    framework = booster_of(model)
    if framework:
        return booster_module(framework).source(model, options)  # type: ignore[no-any-return]
    from whimbrel_packager.sources.sklearn import SklearnSource

    return SklearnSource(model, options)


def open_source(path: Path, options: Options) -> Source:
    """Open a model file. Call it in a child process."""
    framework = framework_of(path)
    if framework == "onnx":
        from whimbrel_packager.sources.onnx import OnnxSource

        return OnnxSource.open(path, options)
    if framework == "sklearn":
        from whimbrel_packager.sources import sklearn_files

        return of_object(sklearn_files.load(path, options), options)
    if framework == "torch":
        from whimbrel_packager.sources import torch

        return torch.open_source(path, options)
    if framework == "keras":
        from whimbrel_packager.sources import keras

        return keras.open_source(path, options)
    if framework == "mlflow":
        from whimbrel_packager.sources import mlflow

        return mlflow.open_source(path, options)
    if framework in BOOSTERS:
        return booster_module(framework).load(path, options)  # type: ignore[no-any-return]
    raise ConversionError(f"no source for {framework}")


def booster_module(framework: str) -> Any:  # noqa: ANN401 - a module
    """Return the module of a booster, with `load`, `source` and `read`."""
    return importlib.import_module(f"{__name__}.{framework}")
