"""scikit-learn: estimators, pipelines, and column transformers over tables with strings.

A model that was fitted on a table gets one ONNX input per column; one that was fitted on an array
gets one matrix. The conversion itself is skl2onnx; what it gets wrong is put right here where
that can be proven, and everything else is left for the parity corpus to find.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager.frame import datatype
from whimbrel_packager.sources import PICKLES, Description, Options, sklearn_trees

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.untyped import Estimator, Proto

    Array = np.ndarray[Any, Any]

# The newest pair that onnxruntime 1.17, the oldest one an agent may have, knows in full.
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
# Types of scikit-learn that only hold numbers, beside those that skops trusts itself. Trees are
# not among them: their nodes index into memory, so that trusting them is a person's decision.
TRUSTED = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
)
_STRING = 8  # onnx.TensorProto.STRING


class SklearnSource:
    """A fitted classifier or regressor."""

    def __init__(self, model: Estimator, options: Options) -> None:
        self.model = model
        self.options = options
        self.classifier = _is(model, "classifier")
        self._outputs = ["label", "probabilities"] if self.classifier else ["variable"]
        if not self.classifier and not _is(model, "regressor"):
            raise ConversionError(
                f"{self.estimator} is neither a classifier nor a regressor",
                hint="pack a pipeline that ends in one",
            )
        if not hasattr(model, "n_features_in_"):
            raise ConversionError(f"{self.estimator} is not fitted", hint="fit it, save it again")

    @classmethod
    def open(cls, path: Path, options: Options) -> SklearnSource:
        """Load a model file; see `whimbrel_packager.sources.open_source`."""
        if path.suffix.lower() in PICKLES:
            return cls(_load_pickle(path, options), options)
        return cls(_load_skops(path, options), options)

    @property
    def estimator(self) -> str:
        """Class names of the steps, e.g. ``Pipeline(ColumnTransformer, LogisticRegression)``."""
        steps = getattr(self.model, "steps", None)
        name = type(self.model).__name__
        if not steps:
            return name
        return f"{name}({', '.join(type(step).__name__ for _, step in steps)})"

    @property
    def named(self) -> bool:
        """Whether the model was fitted on a table with column names."""
        return hasattr(self.model, "feature_names_in_")

    def columns(self, frame: Frame) -> tuple[str, ...]:
        """Return the columns that the model reads, in its order."""
        if self.named:
            names = tuple(str(name) for name in self.model.feature_names_in_)
            frame.select(names, what=self.estimator)
            return names
        if len(frame.names) != self.model.n_features_in_:
            raise InputError(
                f"{self.estimator} was fitted on {self.model.n_features_in_} columns without "
                f"names, the reference data has {len(frame.names)} besides the label",
                hint="leave other columns out of the reference data, or fit on a DataFrame",
                code="input.column",
            )
        return frame.names

    def convert(self, frame: Frame) -> tuple[Any, Description]:
        """Return the converted model; ``frame`` holds the columns it reads.

        Raises:
            ConversionError: skl2onnx refuses it, with its reason.
        """
        import skl2onnx
        import sklearn
        from skl2onnx.common import data_types

        model = copy.deepcopy(self.model)
        sklearn_trees.round_thresholds_down(model)
        _count_classes(model)
        types = {
            "FP32": data_types.FloatTensorType,
            "INT64": data_types.Int64TensorType,
            "BYTES": data_types.StringTensorType,
        }
        kinds = {name: datatype(column) for name, column in frame.columns.items()}
        matrix = self.options.matrix_input
        per_column = _first_step_is_columns(self.model)
        if not per_column and "BYTES" in kinds.values():
            words = [name for name, kind in kinds.items() if kind == "BYTES"]
            raise ConversionError(
                f"{self.estimator} reads strings ({', '.join(words[:5])}) without a "
                "ColumnTransformer, which cannot be converted",
                hint="put a ColumnTransformer with an encoder for these columns first",
            )
        initial = (
            [(name, types[kind]([None, 1])) for name, kind in kinds.items()]
            if per_column
            else [(matrix, data_types.FloatTensorType([None, len(kinds)]))]
        )
        proto = self._to_onnx(model, initial)
        sklearn_trees.keep_missing_branches(proto, self.model)
        if self.named and not per_column:
            split_matrix(proto, matrix, kinds)
        names = self._outputs = [output.name for output in proto.graph.output]
        integers = proto.graph.output[0].type.tensor_type.elem_type != _STRING
        description = Description(
            framework="scikit-learn",
            framework_version=sklearn.__version__,
            estimator=self.estimator,
            converter="skl2onnx",
            converter_version=skl2onnx.__version__,
            task="classification" if self.classifier else "regression",
            columns=frame.names,
            matrix=None if self.named or per_column else matrix,
            roles=self._roles(names),
            classes=self._classes(integers=integers),
            boolean=self.classifier and np.asarray(self.model.classes_).dtype.kind == "b",
        )
        return proto, description

    def predict(self, frame: Frame) -> dict[str, Array]:
        """Return label and probabilities, or the value, by the names of the converted outputs."""
        rows = self._table(frame)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Overflow and odd values are what the corpus is made of.
            warnings.simplefilter("ignore")
            if not self.classifier:
                value = np.asarray(self.model.predict(rows), dtype=np.float64)
                return {self._outputs[0]: value.reshape(len(value), -1)}
            label = np.asarray(self.model.predict(rows))
            result = {
                self._outputs[0]: label.astype(np.int64) if label.dtype.kind == "b" else label
            }
            if hasattr(self.model, "predict_proba"):
                result[self._outputs[1]] = np.asarray(self.model.predict_proba(rows), np.float64)
        return result

    def thresholds(self) -> list[tuple[int, float]]:
        """Return (feature index, threshold) of the last step's trees."""
        return sklearn_trees.thresholds(self.model)

    def _to_onnx(self, model: Estimator, initial: list[Any]) -> Proto:
        import skl2onnx

        # ZipMap makes a dict per row, at 70 times the cost; not every converter knows the option.
        attempts = [{id(model): {"zipmap": False}}, None] if self.classifier else [None]
        for options in attempts:
            try:
                return skl2onnx.convert_sklearn(
                    model, initial_types=initial, options=options, target_opset=TARGET_OPSET
                )
            except MemoryError:
                raise
            except Exception as error:
                if options is not None and "zipmap" in str(error):
                    continue
                raise _refusal(self.estimator, error) from error
        raise AssertionError

    def _roles(self, names: list[str]) -> dict[str, str]:
        if not self.classifier:
            return dict.fromkeys(names, "value")
        scores = "probabilities" if hasattr(self.model, "predict_proba") else "other"
        return {names[0]: "label", **dict.fromkeys(names[1:], scores)}

    def _classes(self, *, integers: bool) -> tuple[str, ...]:
        if not self.classifier:
            return ()
        classes = self.model.classes_
        if isinstance(classes, list):
            raise ConversionError(
                f"{self.estimator} predicts several outputs at once, one is supported",
                hint="pack one model per output",
            )
        return tuple(str(int(value)) if integers else str(value) for value in classes)

    def _table(self, frame: Frame) -> Proto:
        if not self.named:
            return np.stack(list(frame.columns.values()), axis=1)
        import pandas as pd

        columns = {}
        for name, column in frame.columns.items():
            if column.dtype == object:
                # scikit-learn's encoders tell None from NaN; tables of pandas hold NaN.
                values = np.array([np.nan if v is None else v for v in column] + [""], object)[:-1]
                columns[name] = pd.Series(values, dtype=object)
            else:
                columns[name] = pd.Series(column)
        return pd.DataFrame(columns)


def split_matrix(proto: Proto, matrix: str, kinds: dict[str, str]) -> None:
    """Replace the matrix input of a model by one input per column, joined in front of it."""
    from onnx import TensorProto, helper

    graph = proto.graph
    joined, nodes, parts = f"{matrix}_joined", [], []
    _rename(graph, {**{name: f"{name}_of_{matrix}" for name in kinds}, matrix: joined})
    del graph.input[:]
    for i, (name, kind) in enumerate(kinds.items()):
        kind_id = TensorProto.FLOAT if kind == "FP32" else TensorProto.INT64
        graph.input.append(helper.make_tensor_value_info(name, kind_id, [None, 1]))
        parts.append(name)
        if kind != "FP32":
            parts[-1] = f"{joined}_{i}"
            nodes.append(helper.make_node("Cast", [name], [parts[-1]], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Concat", parts, [joined], axis=1))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _rename(graph: Proto, names: dict[str, str]) -> None:
    """Rename tensors: a column may be called like something inside the model."""
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _count_classes(model: Estimator) -> None:
    """Make False and True 0 and 1, in place: some converters know no third kind of class."""
    for estimator in sklearn_trees.walk(model):
        classes = getattr(estimator, "classes_", None)
        if isinstance(classes, np.ndarray) and classes.dtype.kind == "b":
            with contextlib.suppress(AttributeError):  # a pipeline's are its last step's
                estimator.classes_ = classes.astype(np.int64)


def _first_step_is_columns(model: Estimator) -> bool:
    steps = getattr(model, "steps", None)
    first = steps[0][1] if steps else model
    return type(first).__name__ == "ColumnTransformer"


def _is(model: Estimator, kind: str) -> bool:
    from sklearn.base import is_classifier, is_regressor

    try:
        return bool(is_classifier(model) if kind == "classifier" else is_regressor(model))
    except (AttributeError, TypeError):
        return False


def _load_pickle(path: Path, options: Options) -> Proto:
    if not options.allow_pickle:
        raise UsageError(
            f"{path} is a pickle, and loading one runs whatever code is in it",
            hint="save the model with skops.io.dump, or give --allow-pickle if you made it",
            code="usage.pickle",
        )
    import joblib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other versions warn; parity decides
            return joblib.load(path)
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"{path} needs the module {error.name!r}, which is not installed here",
            hint="install the package the model was made with, on this machine",
        ) from error
    except MemoryError:
        raise  # the limit of this process, and not the file's fault
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}",
            hint="save it again with the scikit-learn version of this machine",
            code="input.model",
        ) from error


def _load_skops(path: Path, options: Options) -> Proto:
    try:
        import skops.io as skops  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UsageError(
            f"{path}: reading .skops files needs skops, which is not installed here",
            hint="pip install skops, or save the model with joblib and give --allow-pickle",
        ) from error
    try:
        trusted = {*TRUSTED, *options.trusted}
        held = set(skops.get_untrusted_types(file=path))
        unknown = sorted(held - trusted)
        model = None if unknown else skops.load(path, trusted=sorted(held & trusted))
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded: {type(error).__name__}: {error}",
            hint="save it again with skops.io.dump",
            code="input.model",
        ) from error
    if unknown:
        raise UsageError(
            f"{path} holds types that are not trusted: {', '.join(unknown)}",
            hint="if you know them, give " + " ".join(f"--trusted {name}" for name in unknown),
            code="usage.untrusted",
        )
    return model


def _refusal(estimator: str, error: Exception) -> ConversionError:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if "MissingShapeCalculator" in kind or "MissingConverter" in kind:
        text = text.split("It usually means")[0].strip()
        hint = "skl2onnx has no converter for it: replace that step, or export the model to ONNX"
    else:
        hint = "simplify the step that the message names, or export the model to ONNX yourself"
    return ConversionError(f"{estimator} cannot be converted: {text[:400]} ({kind})", hint=hint)
