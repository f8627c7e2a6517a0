"""scikit-learn's histogram boosting, with columns by category and every link.

skl2onnx splits categories as if they were numbers, rounds thresholds to the nearest float32, leaves
the exponential link of counts out, and fails under protobuf 7. Here each tree becomes one of
`whimbrel_packager.sources.forest`, where a set of categories is exact; columns by category are
encoded in front of it as the model does it itself, and stand before all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources import forest
from whimbrel_packager.sources.sklearn_nodes import Nodes, nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from whimbrel_packager.sources.sklearn_nodes import Container, Operator, Scope
    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]

KINDS = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
_EXPONENTIAL = ("poisson", "gamma")


def by_category(model: Estimator) -> bool:
    """Return whether a model splits some columns by category."""
    return type(model).__name__ in KINDS and model.is_categorical_ is not None


def converter(plain: Callable[..., None]) -> Callable[..., None]:
    """Return the converter; ``plain`` is skl2onnx's own, for raw scores."""

    def convert(scope: Scope, operator: Operator, container: Container) -> None:
        model = operator.raw_operator
        if container.get_options(model, {"raw_scores": False})["raw_scores"]:
            if by_category(model):
                raise ConversionError(
                    f"raw scores of a {type(model).__name__} with columns by category cannot be "
                    "converted",
                    hint="encode these columns before it, in a ColumnTransformer",
                )
            plain(scope, operator, container)
            return
        graph = nodes(scope, operator, container)
        x = _encoded(graph, operator) if by_category(model) else graph.joined(operator)
        double = graph.is_double
        trees = _forest(model)
        raw = graph.node("TreeEnsembleRegressor", x, **forest.attributes(trees, double=double))
        if double:  # the operator answers float32 whatever it reads
            raw = graph.node("Cast", raw, to_type=graph.kind)
        outputs = [value.full_name for value in operator.outputs]
        if hasattr(model, "classes_"):
            _classify(graph, raw, model, outputs)
        else:
            link = "Exp" if model.loss in _EXPONENTIAL else "Identity"
            graph.node(link, raw, to=outputs[0])

    return convert


def shape(plain: Callable[[Operator], None]) -> Callable[[Operator], None]:
    """Return the shape calculator, which lets columns of words through."""

    def calculate(operator: Operator) -> None:
        model = operator.raw_operator
        if not by_category(model):
            plain(operator)
            return
        from skl2onnx.common import data_types

        double = any(isinstance(v.type, data_types.DoubleTensorType) for v in operator.inputs)
        numbers = data_types.DoubleTensorType if double else data_types.FloatTensorType
        if not hasattr(model, "classes_"):
            operator.outputs[0].type = numbers([None, 1])
            return
        words = _are_words(model)
        label = data_types.StringTensorType if words else data_types.Int64TensorType
        operator.outputs[0].type = label([None])
        operator.outputs[1].type = numbers([None, len(model.classes_)])

    return calculate


def _forest(model: Estimator) -> forest.Forest:
    base = np.ravel(model._baseline_prediction)  # noqa: SLF001 - of no other name
    grown = [
        _tree(predictor, target)
        for stage in model._predictors  # noqa: SLF001 - likewise
        for target, predictor in enumerate(stage)
    ]
    return forest.Forest(tuple(grown), tuple(map(float, base)), model.n_features_in_)


def _tree(predictor: Any, target: int) -> forest.Tree:  # noqa: ANN401 - scikit-learn ships no types
    grown: forest.Tree = []
    for node in predictor.nodes:
        if node["is_leaf"]:
            grown.append(forest.Leaf(((target, float(node["value"])),)))
            continue
        if node["is_categorical"]:
            bits = predictor.raw_left_cat_bitsets[node["bitset_idx"]]
            codes = [c for c in range(32 * len(bits)) if int(bits[c // 32]) >> (c % 32) & 1]
            pieces = forest.members(codes, left=True)
        elif np.isfinite(node["num_threshold"]):
            pieces = forest.Pieces((forest.Cut(float(node["num_threshold"])),), below=True)
        else:
            pieces = forest.Pieces((), below=True)  # parts missing values from all others
        grown.append(
            forest.Branch(
                int(node["feature_idx"]), pieces.cuts, pieces.below,
                bool(node["missing_go_to_left"]), int(node["left"]), int(node["right"]),
            )
        )  # fmt: skip
    return grown


def _encoded(graph: Nodes, operator: Operator) -> str:
    """Return the columns as the model's own encoder hands them on: those by category first."""
    model = operator.raw_operator
    flags = np.asarray(model.is_categorical_)
    categories = model._preprocessor.named_transformers_["encoder"].categories_  # noqa: SLF001 - of no other name
    order = [*np.flatnonzero(flags), *np.flatnonzero(~flags)]
    single = len(operator.inputs) == 1
    matrix = graph.joined(operator) if single else ""
    made = []
    for place, index in enumerate(order):
        if single:
            column = graph.node("Gather", matrix, graph.integers([index]), axis=1)
        else:
            column = operator.inputs[index].full_name
        if place < len(categories):
            words = not single and type(operator.inputs[index].type).__name__ == "StringTensorType"
            column = column if words else _as_float32(graph, column)
            column = _codes(graph, column, np.asarray(categories[place]), words=words)
        elif not single:
            column = graph.cast(column, operator.inputs[index])
        made.append(column)
    return graph.node("Concat", *made, axis=1)


def _as_float32(graph: Nodes, column: str) -> str:
    from onnx import TensorProto

    return graph.node("Cast", column, to_type=TensorProto.FLOAT)


def _codes(graph: Nodes, column: str, known: Array, *, words: bool) -> str:
    """Return the code of each category; NaN for a missing or unknown one, as the model has it."""
    if words:
        kept = np.array([isinstance(word, str) for word in known])
        keys: dict[str, Any] = {"keys_strings": known[kept].tolist()}
    else:
        kept = ~np.isnan(known.astype(np.float64))
        keys = {"keys_floats": known[kept].astype(np.float64).tolist()}
    values = np.flatnonzero(kept).astype(np.float64).tolist()
    coded = graph.node(
        "LabelEncoder", column, values_floats=values, default_float=float("nan"), **keys
    )
    return graph.node("Cast", coded, to_type=graph.kind) if graph.is_double else coded


def _classify(graph: Nodes, raw: str, model: Estimator, outputs: list[str]) -> None:
    label, numbers = outputs
    if len(model.classes_) <= 2:  # noqa: PLR2004 - one score tells two classes
        second = graph.node("Sigmoid", raw)
        first = graph.node("Sub", graph.constant([1.0]), second)
        graph.node("Concat", first, second, to=numbers, axis=1)
        above = graph.node("Greater", raw, graph.constant([0.0]))
        index = graph.node("Where", above, graph.integers([1]), graph.integers([0]))
    else:
        graph.node("Softmax", raw, to=numbers, axis=1)
        index = graph.node("ArgMax", raw, axis=1, keepdims=1)
    index = graph.node("Reshape", index, graph.integers([-1]))
    if _are_words(model):
        names = [str(name) for name in model.classes_]
        keys = list(range(len(names)))
        graph.node("LabelEncoder", index, to=label, keys_int64s=keys, values_strings=names)
    else:
        graph.node("Gather", graph.integers(model.classes_), index, to=label, axis=0)


def _are_words(model: Estimator) -> bool:
    return bool(np.asarray(model.classes_).dtype.kind in "OU")
