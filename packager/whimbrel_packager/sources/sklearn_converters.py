"""Converters of our own, where skl2onnx has none, or one that is wrong or slow.

They are registered with skl2onnx in the conversion's child process and stand beside its own. What
they give is proven like everything else.

=======================  =====================================================================
SimpleImputer            with ``add_indicator``, which skl2onnx leaves out without a word
FunctionTransformer      of numpy's functions in `UFUNCS`; skl2onnx knows the identity alone
IsolationForest          one ensemble that sums path lengths, in place of four nodes a tree
EllipticEnvelope         skl2onnx has none
TfidfTransformer         with ``sublinear_tf``: skl2onnx takes log(1 + n) and not 1 + log(n)
trees and forests        from their arrays (`sklearn_forests`)
histogram boosting       categories, links and exact thresholds (`sklearn_histogram`)
isotonic calibration     interpolated; skl2onnx takes the nearest step
=======================  =====================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources import sklearn_forests, sklearn_histogram, sklearn_trees
from whimbrel_packager.sources.sklearn_nodes import Nodes, Step, nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]
    # skl2onnx ships no types.
    Scope = Any
    Operator = Any
    Container = Any

# What numpy's functions are in ONNX: operators with the constant on their right, if they take one.
UFUNCS: dict[str, tuple[Step, ...]] = {
    "exp": (("Exp", None),),
    "exp2": (("Mul", float(np.log(2))), ("Exp", None)),
    "expm1": (("Exp", None), ("Sub", 1.0)),
    "log": (("Log", None),),
    "log2": (("Log", None), ("Div", float(np.log(2)))),
    "log10": (("Log", None), ("Div", float(np.log(10)))),
    "log1p": (("Add", 1.0), ("Log", None)),
    "sqrt": (("Sqrt", None),),
    "square": (("Pow", 2.0),),
    "abs": (("Abs", None),),
    "absolute": (("Abs", None),),
    "negative": (("Neg", None),),
    "reciprocal": (("Reciprocal", None),),
    "tanh": (("Tanh", None),),
    "sin": (("Sin", None),),
    "cos": (("Cos", None),),
    "sign": (("Sign", None),),
    "floor": (("Floor", None),),
    "ceil": (("Ceil", None),),
    "expit": (("Sigmoid", None),),
}


def ufunc_steps(function: object) -> tuple[Step, ...] | None:
    """Return what a numpy or scipy function is in ONNX, or None for any other."""
    return UFUNCS.get(function.__name__) if isinstance(function, np.ufunc) else None


def register() -> None:
    """Register the converters with skl2onnx, once in a process."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import _registration as registry
    from skl2onnx.operator_converters import calibrated_classifier_cv
    from sklearn.covariance import EllipticEnvelope

    if _PLAIN:
        return
    for name, make in (
        ("SimpleImputer", _imputer),
        ("FunctionTransformer", _function),
        ("TfidfTransformer", _sublinear),
        ("IsolationForest", lambda _plain: _isolation_forest),
        *((kind, sklearn_forests.converter) for kind in sklearn_forests.KINDS),
        *((kind, sklearn_histogram.converter) for kind in sklearn_histogram.KINDS),
    ):
        alias = f"Sklearn{name}"
        try:
            plain = _PLAIN[alias] = registry.get_converter(alias)
        except ValueError:
            continue  # converted under the name of another
        options = plain.get_allowed_options()
        registry.register_converter(alias, make(plain), overwrite=True, options=options)
    for name, shape in (
        ("SimpleImputer", _imputed_shape),
        ("FunctionTransformer", _function_shape),
        *((kind, sklearn_histogram.shape) for kind in sklearn_histogram.KINDS),
    ):
        own = shape(registry.get_shape_calculator(f"Sklearn{name}"))
        registry.register_shape_calculator(f"Sklearn{name}", own, overwrite=True)
    update_registered_converter(
        EllipticEnvelope,
        "SklearnEllipticEnvelope",
        registry.get_shape_calculator("SklearnIsolationForest"),
        _envelope,
        options={"score_samples": [True, False]},
    )
    if hasattr(calibrated_classifier_cv, "_transform_isotonic"):
        calibrated_classifier_cv._transform_isotonic = _isotonic_calibration  # noqa: SLF001 - it takes the nearest step; there is no public way to its place


_PLAIN: dict[str, Any] = {}
"""skl2onnx's own converters by alias, once ours stand in their place."""


def _numbers(operator: Operator) -> Callable[[list[int | None]], Any]:
    """Return the type of what an operator computes from its inputs."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    double = any(isinstance(value.type, DoubleTensorType) for value in operator.inputs)
    chosen: Callable[[list[int | None]], Any] = DoubleTensorType if double else FloatTensorType
    return chosen


def _indicated(imputer: Estimator) -> bool:
    return getattr(imputer, "indicator_", None) is not None


def _imputed_shape(plain: Callable[[Operator], None]) -> Callable[[Operator], None]:
    def shape(operator: Operator) -> None:
        imputer = operator.raw_operator
        if not _indicated(imputer):
            plain(operator)
            return
        width = len(imputer.statistics_) + len(imputer.indicator_.features_)
        operator.outputs[0].type = _numbers(operator)([None, width])

    return shape


def _imputer(plain: Callable[..., None]) -> Callable[..., None]:
    def convert(scope: Scope, operator: Operator, container: Container) -> None:
        imputer = operator.raw_operator
        if not _indicated(imputer):
            plain(scope, operator, container)
            return
        statistics = imputer.statistics_
        if statistics.dtype.kind != "f" or np.isnan(statistics).any():
            raise ConversionError(
                "SimpleImputer(add_indicator=True) converts over numbers of which some are known",
                hint="leave columns out that are empty or words",
            )
        graph = nodes(scope, operator, container)
        x = graph.joined(operator)
        missing = graph.node("IsNaN", x)
        filled = graph.node("Where", missing, graph.constant(statistics), x)
        chosen = graph.node("Gather", missing, graph.integers(imputer.indicator_.features_), axis=1)
        flags = graph.node("Where", chosen, graph.constant([1.0]), graph.constant([0.0]))
        graph.node("Concat", filled, flags, to=operator.outputs[0].full_name, axis=1)

    return convert


# ------------------------------------------------------------------------- FunctionTransformer


def _function(plain: Callable[..., None]) -> Callable[..., None]:
    def convert(scope: Scope, operator: Operator, container: Container) -> None:
        function = operator.raw_operator.func
        if function is None:
            plain(scope, operator, container)
            return
        steps = ufunc_steps(function)
        if steps is None or operator.raw_operator.kw_args:
            name = getattr(function, "__name__", type(function).__name__)
            raise ConversionError(
                f"FunctionTransformer({name}) cannot be converted: ONNX holds no Python",
                hint=f"use one of numpy's {', '.join(UFUNCS)}, or do it before the model",
            )
        graph = nodes(scope, operator, container)
        graph.steps(steps, graph.joined(operator), operator.outputs[0].full_name)

    return convert


def _function_shape(plain: Callable[[Operator], None]) -> Callable[[Operator], None]:
    def shape(operator: Operator) -> None:
        if operator.raw_operator.func is None:
            plain(operator)
            return
        widths = [value.type.shape[1] for value in operator.inputs]
        operator.outputs[0].type = _numbers(operator)(
            [None, None if None in widths else sum(widths)]
        )

    return shape


# -------------------------------------------------------------------------- TfidfTransformer


def _sublinear(plain: Callable[..., None]) -> Callable[..., None]:
    def convert(scope: Scope, operator: Operator, container: Container) -> None:
        tfidf = operator.raw_operator
        if not tfidf.sublinear_tf:
            plain(scope, operator, container)
            return
        graph = nodes(scope, operator, container)
        counts = graph.joined(operator)
        one, zero = graph.constant([1.0]), graph.constant([0.0])
        logged = graph.node("Add", graph.node("Log", graph.node("Max", counts, one)), one)
        value = graph.node("Where", graph.node("Greater", counts, zero), logged, zero)
        if tfidf.use_idf:
            idf = np.asarray(tfidf.idf_)
            value = graph.node("Mul", value, graph.constant(idf))
        if tfidf.norm is not None:
            name = {"l1": "ReduceL1", "l2": "ReduceL2"}[tfidf.norm]
            norm = graph.node(name, value, graph.integers([1]), keepdims=1)
            divisor = graph.node("Where", graph.node("Greater", norm, zero), norm, one)
            value = graph.node("Div", value, divisor)
        graph.node("Identity", value, to=operator.outputs[0].full_name)

    return convert


# ---------------------------------------------------------------------------- outlier detectors


def _isolation_forest(scope: Scope, operator: Operator, container: Container) -> None:
    forest = operator.raw_operator
    graph = nodes(scope, operator, container)
    x = graph.joined(operator)
    depth = graph.node("TreeEnsembleRegressor", x, **sklearn_trees.path_lengths(forest))
    if graph.kind != 1:  # trees give float32 in this operator set; go on as the score is asked for
        depth = graph.node("CastLike", depth, graph.constant([0.0]))
    share = graph.node("Mul", depth, graph.constant([-1 / sklearn_trees.longest_path(forest)]))
    sample = graph.node("Pow", graph.constant([2.0]), share)
    negative = graph.node("Neg", sample)
    score = graph.node(
        "Sub", negative, graph.constant([float(forest.offset_)]), to=operator.outputs[1].full_name
    )
    graph.labels(score, operator.outputs[0].full_name)


def _envelope(scope: Scope, operator: Operator, container: Container) -> None:
    envelope = operator.raw_operator
    graph = nodes(scope, operator, container)
    apart = graph.node("Sub", graph.joined(operator), graph.constant(envelope.location_))
    turned = graph.node("MatMul", apart, graph.constant(envelope.get_precision()))
    product = graph.node("Mul", turned, apart)
    distance = graph.node("ReduceSum", product, graph.integers([1]), keepdims=1)
    negative = graph.node("Neg", distance)
    score = graph.node(
        "Sub", negative, graph.constant([float(envelope.offset_)]), to=operator.outputs[1].full_name
    )
    graph.labels(score, operator.outputs[0].full_name)


# ------------------------------------------------------------------------- isotonic calibration


def _isotonic_calibration(  # noqa: PLR0917 - called by skl2onnx
    scope: Scope,
    container: Container,
    model: Estimator,
    value: str,
    k: int,
    dtype: type,
    _kind: int,
) -> str:
    """Interpolate between the steps of the k-th calibrator; in the place of skl2onnx's own."""
    from onnx import TensorProto

    calibrator = model.calibrators[k]
    graph = Nodes(
        scope, container, TensorProto.DOUBLE if dtype == np.float64 else TensorProto.FLOAT
    )
    xs = np.asarray(calibrator.X_thresholds_, dtype=np.float64)
    ys = np.asarray(calibrator.y_thresholds_, dtype=np.float64)
    column = graph.node("Reshape", value, graph.integers([-1, 1]))
    if len(xs) == 1:
        zero = graph.node("Mul", column, graph.constant([0.0]))
        return graph.node("Add", zero, graph.constant([ys[0]]))
    low, high = graph.constant(xs[0]), graph.constant(xs[-1])
    clipped = graph.node("Clip", column, low, high)
    # Which step: how many of the inner thresholds are below. `interp1d` looks from the left.
    above = graph.node("Greater", clipped, graph.constant(xs[1:-1].reshape(1, -1)))
    counted = graph.node("Where", above, graph.integers([1]), graph.integers([0]))
    step = graph.node("ReduceSum", counted, graph.integers([1]), keepdims=1)
    widths = np.maximum(np.diff(xs), np.finfo(np.float64).tiny)
    offset = graph.node("Sub", clipped, graph.node("Gather", graph.constant(xs[:-1]), step))
    slope = graph.node("Gather", graph.constant(np.diff(ys) / widths), step)
    risen = graph.node("Mul", offset, slope)
    return graph.node("Add", risen, graph.node("Gather", graph.constant(ys[:-1]), step))
