"""Boosters inside scikit-learn: as a pipeline's last step, calibrated, stacked, or voted on.

Their converters are registered with skl2onnx and write the same trees and links as a booster that
stands alone. Two things differ in a pipeline:

- What comes in may be float64. LightGBM compares it as it is; XGBoost and CatBoost round it to
  float32 first, and so does the graph.
- What comes in may have been a sparse matrix, of which XGBoost takes zeros that are not stored for
  missing values. `ZEROS_MISSING` says so to the graph; it is a rewrite, proven like any other.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import ConversionError
from whimbrel_packager import sources
from whimbrel_packager.sources import booster, sklearn_trees, thresholds
from whimbrel_packager.sources import forest as forests
from whimbrel_packager.sources.booster_graph import classify, linked
from whimbrel_packager.sources.sklearn_nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from whimbrel_packager.sources.booster import Boosted
    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]
    # skl2onnx ships no types.
    Scope = Any
    Operator = Any
    Container = Any

ZEROS_MISSING = "zeros of a sparse matrix are missing"
_MARK = "whimbrel_zeros_missing"
_CLASSIFIERS = {
    "xgboost": ("XGBClassifier", "XGBRFClassifier"),
    "lightgbm": ("LGBMClassifier",),
    "catboost": ("CatBoostClassifier",),
}
_REGRESSORS = {
    "xgboost": ("XGBRegressor", "XGBRFRegressor"),
    "lightgbm": ("LGBMRegressor",),
    "catboost": ("CatBoostRegressor",),
}


def register() -> None:
    """Register converters for the boosters that a loaded model may hold, once in a process."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    # CalibratedClassifierCV and others prefer scores to probabilities where there are any.
    scored = {**options, "raw_scores": [True, False]}
    for framework in sources.BOOSTERS:
        module = sys.modules.get(framework)  # a model that is loaded has loaded it
        if module is None:
            continue
        for name in _CLASSIFIERS[framework]:
            kind = getattr(module, name)
            update_registered_converter(
                kind, f"Whimbrel{name}", calculate_linear_classifier_output_shapes, _classifier,
                options=scored if _scores(kind) else options,
                # It does not tell scikit-learn in time what it is.
                parser=_parsed if framework == "catboost" else None,
            )  # fmt: skip
        for name in _REGRESSORS[framework]:
            update_registered_converter(
                getattr(module, name), f"Whimbrel{name}",
                calculate_linear_regressor_output_shapes, _regressor,
            )  # fmt: skip


def may_meet_sparse(model: Estimator) -> bool:
    """Return whether a model holds an XGBoost behind other steps."""
    return any(_xgboost(step) for step in sklearn_trees.walk(model)) and not _xgboost(model)


def mark_sparse(copied: Estimator) -> None:
    """Let zeros count as missing in front of every XGBoost of a model, in place."""
    for step in sklearn_trees.walk(copied):
        if _xgboost(step):
            setattr(step, _MARK, True)


def thresholds_of(model: Estimator) -> Thresholds:
    """Return the thresholds of the boosters of a pipeline's last step."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return thresholds.joined(boosted.forest.thresholds() for boosted in _boosters(last))


def _boosters(model: Estimator) -> Iterator[Boosted]:
    for step in sklearn_trees.walk(model):
        framework = sources.booster_of(step)
        if framework and hasattr(step, "fit"):
            with contextlib.suppress(ConversionError):  # what was cloned and fitted is beside it
                yield sources.booster_module(framework).read(step)


def _scores(model: object) -> bool:
    return hasattr(model, "decision_function")


def _xgboost(step: object) -> bool:
    return sources.booster_of(step) == "xgboost"


def _classifier(scope: Scope, operator: Operator, container: Container) -> None:
    boosted = _read(operator)
    classes = booster.classes_of(boosted)[0]
    graph = _Graph(scope, container)
    sums = graph.sums(operator, boosted)
    label, probabilities = (output.full_name for output in operator.outputs)
    targets, made = len(boosted.forest.base), graph.own("probabilities")
    classify(
        graph, sums, boosted.link, classes, targets=targets, outputs=(label, made),
        threshold=boosted.threshold,
    )  # fmt: skip
    model = operator.raw_operator
    if _scores(model) and scope.get_options(model, {"raw_scores": False})["raw_scores"]:
        made = (
            sums if targets > 1 else graph.apply("Concat", graph.apply("Neg", sums), sums, axis=1)
        )
    graph.as_declared(made, operator.outputs[1], probabilities)


def _parsed(
    scope: Scope,
    model: Estimator,
    inputs: list[Any],
    custom_parsers: object = None,  # noqa: ARG001 - called by skl2onnx
) -> list[Any]:
    """Declare a classifier's outputs."""
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType, guess_tensor_type

    operator = scope.declare_local_operator(f"Whimbrel{type(model).__name__}", model)
    operator.inputs.extend(inputs)
    classes = booster.classes_of(_read(operator))[0]
    label = Int64TensorType() if isinstance(classes[0], int) else StringTensorType()
    numbers = guess_tensor_type(inputs[0].type)
    for name, kind in (("label", label), ("probabilities", numbers)):
        operator.outputs.append(scope.declare_local_variable(name, kind))
    return list(operator.outputs)


def _regressor(scope: Scope, operator: Operator, container: Container) -> None:
    boosted = _read(operator)
    graph = _Graph(scope, container)
    value = linked(graph, graph.sums(operator, boosted), boosted.link)
    graph.as_declared(value, operator.outputs[0], operator.outputs[0].full_name)


def _read(operator: Operator) -> Boosted:
    model = operator.raw_operator
    boosted: Boosted = sources.booster_module(sources.booster_of(model)).read(model)
    if boosted.words:
        raise ConversionError(
            f"{boosted.estimator} reads categories of pandas behind other steps, which cannot be "
            "followed through them",
            hint="fit it on the table itself, without a pipeline, or encode the categories in it",
        )
    return boosted


class _Graph:
    """Writes what `booster_graph` writes into a container of skl2onnx."""

    def __init__(self, scope: Scope, container: Container) -> None:
        from onnx import TensorProto

        self._scope, self._container = scope, container
        self._float, self._double = TensorProto.FLOAT, TensorProto.DOUBLE

    def own(self, name: str) -> str:
        """Return a name that no tensor has yet."""
        return str(self._scope.get_unique_variable_name(name))

    def sums(self, operator: Operator, boosted: Boosted) -> str:
        """Add the trees; return the name of their sums."""
        double = boosted.exact and any(
            type(value.type).__name__ == "DoubleTensorType" for value in operator.inputs
        )
        x = Nodes(self._scope, self._container, self._double if double else self._float).joined(
            operator
        )
        absent = [boosted.absent] if boosted.absent is not None else []
        if getattr(operator.raw_operator, _MARK, False):
            absent.append(0.0)
        for value in absent:
            gaps = self.own("with_gaps")
            self._container.add_node(
                "Imputer", [x], [gaps], name=self._scope.get_unique_operator_name("Imputer"),
                op_domain="ai.onnx.ml", op_version=1,
                imputed_value_floats=[float("nan")], replaced_value_float=float(value),
            )  # fmt: skip
            x = gaps
        made = self.own("sums")
        self._container.add_node(
            forests.OPERATOR, [x], [made], name=self._scope.get_unique_operator_name("Trees"),
            op_domain="ai.onnx.ml", op_version=3,
            **forests.attributes(boosted.forest, double=double),
        )  # fmt: skip
        return made

    def apply(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node of the default domain and return the name of its output."""
        name = self.own(operator.lower())
        self.give(operator, inputs, name, **attributes)
        return name

    def give(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> None:
        """Add a node of the default domain whose output has a given name."""
        self._container.add_node(
            operator, list(inputs), [output],
            name=self._scope.get_unique_operator_name(operator), **attributes,
        )  # fmt: skip

    def constant(self, array: Array) -> str:
        """Add a constant and return its name."""
        from onnx import TensorProto

        kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "O": TensorProto.STRING}
        name = self.own("constant")
        self._container.add_initializer(
            name, kinds[array.dtype.kind], list(array.shape), array.ravel().tolist()
        )
        return name

    def as_declared(self, made: str, declared: Any, name: str) -> None:  # noqa: ANN401 - a variable of skl2onnx
        """Hand numbers on in the precision in which an output was declared."""
        double = type(declared.type).__name__ == "DoubleTensorType"
        self.give("Cast", [made], name, to=self._double if double else self._float)
