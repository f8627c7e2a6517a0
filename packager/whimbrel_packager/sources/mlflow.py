"""MLflow: model directories, read without mlflow.

``MLmodel`` names the flavours in which a model was saved. The first one that a source here knows
is opened by that source; what is kept beside it (the signature, the input example) is held against
the reference data, and where the model comes from (run, model id, time) goes into the bundle's
lineage. The directory is somebody else's: no file outside it is opened, and neither code nor lists
of trusted types in it are followed.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager import sources
from whimbrel_packager.frame import datatype
from whimbrel_packager.sources import PICKLES, Rewriting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources import Description, Options, Source
    from whimbrel_packager.sources.thresholds import Thresholds

    Array = np.ndarray[Any, Any]

_MAX_BYTES = 4 << 20
_MAX_WORD = 200
_FLAVOURS = ("onnx", "sklearn", "xgboost", "lightgbm", "catboost", "pytorch", "keras", "tensorflow")
_LINEAGE = {
    "run_id": "mlflow.run",
    "model_id": "mlflow.model",
    "model_uuid": "mlflow.model_uuid",
    "mlflow_version": "mlflow.version",
    "utc_time_created": "mlflow.created",
}
_WORDS = ("string",)
_NUMBERS = ("boolean", "integer", "long", "float", "double")


class Column(msgspec.Struct, frozen=True):
    """A column of a signature: ``type`` is MLflow's name of it."""

    type: Any
    name: str | None = None
    required: bool = True


def open_source(path: Path, options: Options) -> MlflowSource:
    """Open a model directory; see `whimbrel_packager.sources.open_source`.

    Raises:
        InputError: ``MLmodel`` cannot be read, or names a file that is not there.
        ConversionError: no flavour of it can be converted, or it leads out of its directory.
        UsageError: it is a pickle that nobody allowed, or a package is missing.
    """
    stated = _read(path)
    flavours = stated.get("flavors")
    if not isinstance(flavours, dict) or not flavours:
        raise _damaged(f"{path / 'MLmodel'} names no flavours")
    name = next((f for f in _FLAVOURS if isinstance(flavours.get(f), dict)), None)
    if name is None:
        raise _no_flavour(path, list(flavours))
    try:
        inner = _open(name, flavours[name], path, options)
    except UsageError as error:
        if error.code != "usage.pickle":
            raise
        raise UsageError(
            f"{path.name} holds its model as a pickle, and loading one runs whatever code is in it",
            hint=_HINTS.get(name, "give --allow-pickle if you made it"),
            code="usage.pickle",
        ) from error
    return MlflowSource(inner, path, stated)


class MlflowSource:
    """The source of a flavour, with what MLflow knows of the model."""

    def __init__(self, inner: Source, path: Path, stated: Mapping[str, Any]) -> None:
        self.inner = inner
        self.estimator = inner.estimator
        self._path = path
        self._stated = stated
        self._signature = _signature(stated, path)

    def columns(self, frame: Frame) -> tuple[str, ...]:
        """Return the columns that the model reads, and hold them against the signature."""
        stated = {column.name: column for column in self._signature if column.name}
        for name, column in stated.items():
            if name in frame.names:
                _hold(column, datatype(frame.columns[name]), self._path.name)
        if not stated or set(stated) - set(frame.names):
            return self.inner.columns(frame)
        # A model without names gets its columns in the order of the signature.
        told = frame.select(list(stated), what="the signature")
        try:
            names = self.inner.columns(told)
        except InputError as error:
            raise InputError(
                f"{self._path.name}: the model does not fit its own MLflow signature, of "
                f"{', '.join(map(repr, list(stated)[:20]))}: {error.message}",
                hint="log the model again, with the signature of the data it was fitted on",
                code=error.code,
            ) from error
        _hold_example(names, self._path, self._stated)
        return names

    def attempts(self, frame: Frame) -> tuple[tuple[str, ...], ...]:
        """Return the rewrites of the inner source."""
        return self.inner.attempts(frame) if isinstance(self.inner, Rewriting) else ((),)

    def convert(self, frame: Frame, rewrites: tuple[str, ...] = ()) -> tuple[Any, Description]:
        """Return the model as its own source converts it, with its lineage."""
        if rewrites and isinstance(self.inner, Rewriting):
            proto, description = self.inner.convert(frame, rewrites)
        else:
            proto, description = self.inner.convert(frame)
        return proto, msgspec.structs.replace(description, lineage=lineage(self._stated))

    def predict(self, frame: Frame) -> dict[str, Array]:
        """Return the model's own answers."""
        return self.inner.predict(frame)

    def thresholds(self) -> Thresholds:
        """Return the thresholds of the model's trees."""
        return self.inner.thresholds()


def lineage(stated: Mapping[str, Any]) -> dict[str, str]:
    """Return where a model comes from, as MLflow has it.

    >>> lineage({"run_id": "06ff", "model_id": None, "mlflow_version": "3.17.2"})
    {'mlflow.run': '06ff', 'mlflow.version': '3.17.2'}
    """
    found = {name: stated.get(key) for key, name in _LINEAGE.items()}
    return {
        name: str(value)[:_MAX_WORD]
        for name, value in found.items()
        if value and isinstance(value, str | int | float | datetime)
    }


def _read(path: Path) -> dict[str, Any]:
    file = path / "MLmodel"
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise _damaged(f"{file} is larger than {_MAX_BYTES} bytes")
        stated = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(f"{file} cannot be read: {first}") from error
    if not isinstance(stated, dict):
        raise _damaged(f"{file} is no description of a model")
    return stated


def _open(name: str, flavour: Mapping[str, Any], path: Path, options: Options) -> Source:
    """Open the model of one flavour."""
    key = {"sklearn": "pickled_model", "pytorch": "model_data"}.get(name, "data")
    file = _there(path, flavour.get(key), f"flavors.{name}.{key}")
    if name in {"pytorch", "keras", "tensorflow"}:
        file = _network(path, file, name)
    if name == "sklearn" or file.suffix.lower() in (*PICKLES, ".skops"):
        return _pickled(file, flavour, options)
    if name == "catboost":
        from whimbrel_packager.sources import catboost

        return catboost.load(file, options, kind=str(flavour.get("save_format") or "cbm"))
    if name == "lightgbm":
        from whimbrel_packager.sources import lightgbm

        return lightgbm.load(file, options)
    if name == "xgboost":
        from whimbrel_packager.sources import xgboost

        return xgboost.load(file, options)
    return sources.open_source(file, options)


def _pickled(file: Path, flavour: Mapping[str, Any], options: Options) -> Source:
    if flavour.get("code"):
        raise ConversionError(
            f"{file.parent.name} brings code of its own ({flavour['code']!r}), which is not run",
            hint="install that code as a package, and save the model without code_paths",
        )
    return sources.open_source(file, options)


def _network(path: Path, data: Path, name: str) -> Path:
    """Return the file of a network inside its folder of data."""
    if not data.is_dir():
        return data
    for known in ("model.pt2", "model.pth", "model.keras", "model", "."):
        file = _inside(path, f"{data.relative_to(path.resolve())}/{known}", f"flavors.{name}")
        if file.is_file() or sources.is_saved_model(file):
            return file
    raise ConversionError(
        f"{path.name}: its data folder {data.name!r} holds no network that is known here",
        hint="save it again, PyTorch as an exported program (.pt2), Keras as .keras",
    )


def _there(path: Path, name: object, key: str) -> Path:
    """Return a file of the directory, which has to be there."""
    file = _inside(path, name, key)
    if not file.exists():
        raise _damaged(f"{path / 'MLmodel'}: {key} is {name!r}, and there is no such file")
    return file


def _inside(path: Path, name: object, key: str) -> Path:
    """Return where a file of the directory is; what leads out of it is refused."""
    if not isinstance(name, str) or not name:
        raise _damaged(f"{path / 'MLmodel'} has no {key}")
    home = path.resolve()
    try:
        file = (home / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise _damaged(f"{path / 'MLmodel'}: {key} is no path: {name!r}") from error
    if not file.is_relative_to(home) or file == home:
        raise ConversionError(
            f"{path / 'MLmodel'}: {key} is {name!r}, outside the model's directory",
            hint="take a directory that MLflow itself has written",
            code="conversion.outside",
        )
    return file


def _signature(stated: Mapping[str, Any], path: Path) -> Sequence[Column]:
    """Return the columns of the signature; none if there is none, or it is of tensors."""
    signature = stated.get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    if not inputs:
        return ()
    try:
        found = msgspec.json.decode(inputs, type=list[Column])
    except (msgspec.DecodeError, TypeError) as error:
        raise _damaged(
            f"{path / 'MLmodel'}: the signature's inputs cannot be read: {error}"
        ) from error
    return () if any(column.type == "tensor" for column in found) else found


def _hold(column: Column, kind: str, what: str) -> None:
    """Require that a column of the reference data is of the signature's type."""
    if not isinstance(column.type, str) or column.type not in (*_WORDS, *_NUMBERS):
        raise ConversionError(
            f"{what}: column {column.name!r} has the type {column.type!r} in the signature, numbers "
            "and strings can be model inputs",
            hint="turn it into numbers before the model, e.g. seconds for a time",
        )
    if (column.type in _WORDS) != (kind == "BYTES"):
        raise InputError(
            f"{what}: column {column.name!r} is {column.type} in the signature, the reference data "
            f"has {kind}",
            hint="give reference data of the types that the model was logged with",
            code="input.column",
        )


def _hold_example(names: Sequence[str], path: Path, stated: Mapping[str, Any]) -> None:
    """Require that the input example has the columns that the model reads."""
    info = stated.get("saved_input_example_info")
    if not isinstance(info, dict) or info.get("pandas_orient") != "split":
        return
    file = _inside(path, info.get("artifact_path"), "saved_input_example_info")
    if not file.is_file() or file.stat().st_size > _MAX_BYTES:
        return
    try:
        columns = json.loads(file.read_bytes()).get("columns")
    except (ValueError, AttributeError) as error:
        raise _damaged(f"{file} cannot be read: {error}") from error
    absent = [name for name in names if name not in (columns or names)]
    if absent:
        raise InputError(
            f"{path.name}: its input example has no column {', '.join(map(repr, absent[:5]))}, "
            "which the model reads",
            hint="log the model again with an example of its own inputs",
            code="input.column",
        )


def _damaged(message: str) -> InputError:
    return InputError(
        message,
        hint="download the whole directory of the model again, or log the model again",
        code="input.model",
    )


def _no_flavour(path: Path, names: Sequence[str]) -> ConversionError:
    others = [name for name in names if name != "python_function"]
    if not others:
        return ConversionError(
            f"{path.name} has the flavour python_function alone: any Python code, which cannot be "
            "converted",
            hint="log the model inside it with a flavour of its own, e.g. mlflow.sklearn",
            code="conversion.flavour",
        )
    return ConversionError(
        f"{path.name} has the flavours {', '.join(others)}, of which none can be converted",
        hint=f"log it as one of {', '.join(_FLAVOURS)}",
        code="conversion.flavour",
    )


_HINTS = {
    "sklearn": "log it with serialization_format='skops', or give --allow-pickle if you made it",
    "pytorch": "log it with serialization_format='pt2', or give --allow-pickle if you made it",
    "lightgbm": "log the booster (model.booster_), or give --allow-pickle if you made it",
}
