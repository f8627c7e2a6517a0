"""scikit-learn: estimators, pipelines, and column transformers over tables with strings.

A model that was fitted on a table gets one ONNX input per column; one that was fitted on an array
gets one matrix. The conversion itself is skl2onnx; what it gets wrong is put right before it
(`sklearn_repairs`), in it (`sklearn_converters`) or behind it (`sklearn_graph`), and everything
else is left for the parity corpus to find.

An outlier detector answers −1 for an outlier and 1 for an inlier, which are its two classes; its
score (below 0: an outlier) is a value beside them, so that devices profile both.
"""

from __future__ import annotations

import copy
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError, InputError
from whimbrel_packager.frame import datatype
from whimbrel_packager.sources import (
    Description,
    Options,
    booster_steps,
    sklearn_converters,
    sklearn_files,
    sklearn_forests,
    sklearn_graph,
    sklearn_histogram,
    sklearn_repairs,
    sklearn_trees,
    thresholds,
)

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources.sklearn_repairs import Prepared
    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Estimator, Proto

    Array = np.ndarray[Any, Any]

# The newest pair that onnxruntime 1.17, the oldest one an agent may have, knows in full.
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
_STRING = 8  # onnx.TensorProto.STRING
_PROBED_ROWS = 64
_SCORES = "scores"


class SklearnSource:
    """A fitted classifier, regressor or outlier detector."""

    def __init__(self, model: Estimator, options: Options) -> None:
        self.model = model
        self.options = options
        for estimator in sklearn_trees.walk(model):
            if getattr(estimator, "n_jobs", None) is not None:
                # Threads would add a forest's answers up in another order every time.
                estimator.n_jobs = 1
        self.detector = _is(model, "outlier_detector")
        self.classifier = _is(model, "classifier")
        self._outputs = ["label", "probabilities"] if self.classifier else ["variable"]
        self._empty_is_missing = False
        if not (self.classifier or self.detector or _is(model, "regressor")):
            raise ConversionError(
                f"{self.estimator} is neither a classifier, a regressor nor an outlier detector",
                hint="pack a pipeline that ends in one; of clusters, train a classifier that "
                "tells them",
            )
        if not _is_fitted(model):
            raise ConversionError(f"{self.estimator} is not fitted", hint="fit it, save it again")

    @classmethod
    def open(cls, path: Path, options: Options) -> SklearnSource:
        """Load a model file; see `whimbrel_packager.sources.open_source`."""
        return cls(sklearn_files.load(path, options), options)

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
        width = getattr(self.model, "n_features_in_", len(frame.names))
        if len(frame.names) != width:
            raise InputError(
                f"{self.estimator} was fitted on {width} columns without names, the reference "
                f"data has {len(frame.names)} besides the label",
                hint="leave other columns out of the reference data, or fit on a DataFrame",
                code="input.column",
            )
        return frame.names

    def attempts(self, frame: Frame) -> tuple[tuple[str, ...], ...]:
        """Return the rewrites to try, by attempt; see `whimbrel_packager.sources.Rewriting`."""
        return sklearn_repairs.attempts(self.model, frame)

    def convert(self, frame: Frame, rewrites: tuple[str, ...] = ()) -> tuple[Any, Description]:
        """Return the converted model; ``frame`` holds the columns it reads.

        Raises:
            ConversionError: skl2onnx refuses it, with its reason.
        """
        import skl2onnx
        import sklearn

        double = sklearn_repairs.FLOAT64 in rewrites
        # Repairs leave a tree's own arrays alone, which may be most of the memory: but one does not.
        shared = {} if double else {id(tree): tree for tree in sklearn_trees.trees_of(self.model)}
        ready = sklearn_repairs.prepare(copy.deepcopy(self.model, shared), rewrites)
        applied = [*rewrites, *ready.applied]
        self._empty_is_missing = sklearn_repairs.MISSING_WORDS in rewrites
        kinds = {name: datatype(column) for name, column in frame.columns.items()}
        per_column = _first_step_is_columns(self.model)
        proto = self._to_onnx(ready, self._inputs(kinds, double=double), rewrites)
        if not self.classifier and not self.detector:
            sklearn_graph.add_steps(proto, ready.steps)
        if sklearn_trees.keep_missing_branches(proto, self.model):
            applied.append(sklearn_repairs.BRANCHES)
        if self.named and not per_column:
            sklearn_graph.split_matrix(proto, self.options.matrix_input, kinds)
        if double:
            sklearn_graph.float32_outside(proto)
        if self.classifier or self.detector:
            if ready.classes is not None:
                sklearn_graph.name_classes(proto, ready.classes)
            sklearn_graph.flat_label(proto)
            if not self._settle_scores(proto, frame, per_column=per_column):
                applied.append(sklearn_repairs.SCORES)
        names = self._outputs = [output.name for output in proto.graph.output]
        integers = proto.graph.output[0].type.tensor_type.elem_type != _STRING
        description = Description(
            framework="scikit-learn",
            framework_version=sklearn.__version__,
            estimator=self.estimator,
            converter="skl2onnx",
            converter_version=skl2onnx.__version__,
            task="classification" if self.classifier or self.detector else "regression",
            columns=frame.names,
            matrix=None if self.named or per_column else self.options.matrix_input,
            roles=self._roles(names),
            classes=self._classes(integers=integers),
            boolean=self.classifier and np.asarray(self.model.classes_).dtype.kind == "b",
            detector=self.detector,
            rewrites=tuple(applied),
            remedy=sklearn_repairs.remedy(self.model),
        )
        return proto, description

    def predict(self, frame: Frame) -> dict[str, Array]:
        """Return label, probabilities and scores, or the value, by the converted outputs' names."""
        rows = self._table(frame)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Overflow and odd values are what the corpus is made of.
            warnings.simplefilter("ignore")
            if not self.classifier and not self.detector:
                value = np.asarray(self.model.predict(rows), dtype=np.float64)
                return {self._outputs[0]: value.reshape(len(value), -1)}
            label = np.asarray(self.model.predict(rows))
            result = {
                self._outputs[0]: label.astype(np.int64) if label.dtype.kind == "b" else label
            }
            if len(self._outputs) > 1:
                result[self._outputs[1]] = self._numbers(rows)
        return result

    def thresholds(self) -> Thresholds:
        """Return those of the last step's trees."""
        return thresholds.joined(
            (sklearn_trees.thresholds_of(self.model), booster_steps.thresholds_of(self.model))
        )

    def _numbers(self, rows: object) -> Array:
        """Return probabilities (n, classes), else scores (n, 1) or (n, classes)."""
        if hasattr(self.model, "predict_proba"):
            return np.asarray(self.model.predict_proba(rows), np.float64)
        scores = np.asarray(self.model.decision_function(rows), np.float64)
        return scores.reshape(len(scores), -1)

    def _inputs(self, kinds: dict[str, str], *, double: bool) -> list[Any]:
        """Return skl2onnx's types of the inputs: one per column, or one matrix."""
        from skl2onnx.common import data_types

        floats = data_types.DoubleTensorType if double else data_types.FloatTensorType
        types = {
            "FP32": floats,
            "INT64": data_types.Int64TensorType,
            "BYTES": data_types.StringTensorType,
        }
        if _first_step_is_columns(self.model):
            return [(name, types[kind]([None, 1])) for name, kind in kinds.items()]
        words = [name for name, kind in kinds.items() if kind == "BYTES"]
        if words:
            raise ConversionError(
                f"{self.estimator} reads words ({', '.join(words[:5])}) without a "
                "ColumnTransformer, which cannot be converted",
                hint="put a ColumnTransformer with an encoder for these columns first",
            )
        return [(self.options.matrix_input, floats([None, len(kinds)]))]

    def _to_onnx(self, ready: Prepared, initial: list[Any], rewrites: tuple[str, ...]) -> Proto:
        import skl2onnx

        sklearn_converters.register()
        booster_steps.register()
        model = ready.model
        others = sklearn_repairs.options(model, rewrites)
        # ZipMap makes a dict per row, at 70 times the cost; not every converter knows the option.
        attempts = (
            [{**others, id(model): {"zipmap": False}}, others] if self.classifier else [others]
        )
        for options in attempts:
            sklearn_forests.begin()
            try:
                proto = skl2onnx.convert_sklearn(
                    model, initial_types=initial, options=options or None, target_opset=TARGET_OPSET
                )
            except (MemoryError, ConversionError):
                raise
            except Exception as error:
                if options is attempts[0] and "zipmap" in str(error):
                    continue
                raise _refusal(self.estimator, error) from error
            else:
                sklearn_forests.fill(proto)
                return proto
        raise AssertionError

    def _settle_scores(self, proto: Proto, frame: Frame, *, per_column: bool) -> bool:
        """Keep of the second output what the model itself says, or nothing; False: nothing.

        A classifier without probabilities has scores: of two classes one number, which skl2onnx
        gives once, twice, with either sign, or scaled, depending on the estimator.
        """
        if len(proto.graph.output) == 1 or hasattr(self.model, "predict_proba"):
            return True
        sklearn_graph.rename(proto.graph, {proto.graph.output[1].name: _SCORES})
        few = frame.take(slice(0, _PROBED_ROWS))
        matrix = None if self.named or per_column else self.options.matrix_input
        got = _run(proto, few, matrix)
        wanted = (
            self._numbers(self._table(few)) if hasattr(self.model, "decision_function") else None
        )
        if got is not None and wanted is not None:
            got = got.reshape(len(wanted), -1)
            if got.shape == wanted.shape:
                return True
            for column in reversed(range(got.shape[1])):
                if wanted.shape[1] == 1 and _close(got[:, column], wanted[:, 0]):
                    sklearn_graph.keep_column(proto, 1, column)
                    return True
        sklearn_graph.drop_output(proto, 1)
        return False

    def _roles(self, names: list[str]) -> dict[str, str]:
        if not self.classifier and not self.detector:
            return dict.fromkeys(names, "value")
        numbers = "probabilities" if hasattr(self.model, "predict_proba") else "value"
        return {names[0]: "label", **dict.fromkeys(names[1:], numbers)}

    def _classes(self, *, integers: bool) -> tuple[str, ...]:
        if self.detector:
            return ("-1", "1")
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

        gaps = {None, ""} if self._empty_is_missing else {None}
        columns = {}
        for name, column in frame.columns.items():
            if column.dtype == object:
                # scikit-learn's encoders tell None from NaN; tables of pandas hold NaN.
                values = np.array([np.nan if v in gaps else v for v in column] + [""], object)[:-1]
                columns[name] = pd.Series(values, dtype=object)
            else:
                columns[name] = pd.Series(column)
        return pd.DataFrame(columns)


def _run(proto: Proto, frame: Frame, matrix: str | None) -> Array | None:
    """Return a model's second output, or None when it cannot be run."""
    import onnxruntime

    from whimbrel_packager.frame import tensors

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        scores: Array = session.run([_SCORES], dict(tensors(frame, matrix)))[0]
    except Exception:  # noqa: BLE001 - what is the matter with it, the proof will tell
        return None
    return scores


def _close(got: Array, wanted: Array) -> bool:
    return bool(np.allclose(got, wanted, rtol=1e-3, atol=1e-3 * max(1.0, float(wanted.std()))))


def _first_step_is_columns(model: Estimator) -> bool:
    steps = getattr(model, "steps", None)
    first = steps[0][1] if steps else model
    if sklearn_histogram.by_category(first):
        return hasattr(first, "feature_names_in_")
    return type(first).__name__ == "ColumnTransformer"


def _is(model: Estimator, kind: str) -> bool:
    import sklearn.base

    try:
        return bool(getattr(sklearn.base, f"is_{kind}")(model))
    except (AttributeError, TypeError):
        return False


def _is_fitted(model: Estimator) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError):
        return False
    return True


def _refusal(estimator: str, error: Exception) -> ConversionError:
    text = " ".join(str(error).split())
    kind = type(error).__name__
    text = text.split("You may raise an is")[0].strip()
    if "MissingShapeCalculator" in kind or "MissingConverter" in kind:
        found = re.search(r"<class '(?:\w+\.)*(\w+)'>", text)
        what = found.group(1) if found else ""
        return ConversionError(
            f"{estimator} cannot be converted: no converter for {what or text[:200]} is known",
            hint="replace that step, or do what it does before the model",
        )
    return ConversionError(
        f"{estimator} cannot be converted: {text[:400]} ({kind})",
        hint="simplify the step that the message names, or export the model to ONNX yourself",
    )
