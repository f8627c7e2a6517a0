"""CatBoost: its classifiers, regressors and rankers, and files in .cbm and JSON.

Categories that CatBoost encodes itself (ordered target statistics, hashes of words), texts and
embeddings have no place in trees over numbers and are refused by name.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources import booster
from whimbrel_packager.sources.booster import Boosted, BoosterSource
from whimbrel_packager.sources.booster_graph import Link
from whimbrel_packager.sources.forest import Branch, Cut, Forest, Leaf

if TYPE_CHECKING:
    from whimbrel_packager.sources import Options
    from whimbrel_packager.sources.forest import Tree
    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]

_KINDS = {
    "cat": "categories that CatBoost encodes itself",
    "text": "texts",
    "embedding": "embeddings",
}
_EXP = ("Poisson", "Tweedie")
_OTHERWISE = ("RMSEWithUncertainty", "SurvivalAft", "Cox")
_SEVERAL = ("MultiRMSE", "MultiRMSEWithMissingValues", "MultiLogloss", "MultiCrossEntropy")


def load(path: Path, options: Options, kind: str = "") -> BoosterSource:
    """Open a file in .cbm or JSON; ``kind`` says which, "" goes by its name."""
    cb = booster.package(f"reading {path.name}", "catboost")
    kind = kind or ("json" if path.suffix.lower() == ".json" else "cbm")
    try:
        model = cb.CatBoost().load_model(str(path), format=kind)
        _refuse(model)
        stated = _dump(model)
        whole = cb.CatBoostClassifier if _has_classes(stated) else cb.CatBoostRegressor
        if not _ranks(stated):
            model = whole().load_model(str(path), format=kind)
    except ConversionError:
        raise
    except Exception as error:
        raise booster.unreadable(
            path, f"CatBoost {cb.__version__}", error, "save it again with save_model('model.cbm')"
        ) from error
    return source(model, options)


def source(model: Estimator, options: Options) -> BoosterSource:
    """Open a fitted model."""
    return BoosterSource(model, read(model), booster.wrapped(model), options)


def read(model: Estimator) -> Boosted:
    """Return a model as trees, link and columns.

    Raises:
        ConversionError: it reads other things than numbers, or answers with what is not known here.
    """
    cb = booster.package("a CatBoost model", "catboost")
    name = type(model).__name__
    if not model.is_fitted():
        raise ConversionError(f"{name} is not fitted", hint="fit it, save it again")
    _refuse(model)
    names = tuple(map(str, model.feature_names_))
    stated = _dump(model)
    loss = _loss(stated)
    what = f"{name} ({loss})"
    scale, bias = stated["scale_and_bias"]
    classes = _classes(model, stated)
    if loss in _SEVERAL or (len(bias) > 1 and not classes):
        raise booster.several(what, len(bias))
    if loss in _OTHERWISE:
        raise ConversionError(
            f"{what} answers with more than a value: {loss}",
            hint="fit with RMSE or another loss of one value",
        )
    columns = stated["features_info"].get("float_features") or []
    places = {f["feature_index"]: f["flat_feature_index"] for f in columns}
    right = {f["feature_index"] for f in columns if f["nan_value_treatment"] == "AsTrue"}
    grown = stated.get("oblivious_trees")
    trees: tuple[Tree, ...] = (
        tuple(_symmetric(tree, places, right, scale, len(bias)) for tree in grown)
        if grown is not None
        else tuple(_free(tree, places, right, scale) for tree in stated["trees"])
    )
    return Boosted(
        framework="catboost",
        version=cb.__version__,
        estimator=what,
        forest=Forest(trees, tuple(float(b) for b in bias), len(names)),
        link=_link(loss, len(bias), classes=bool(classes), regressor=_is_regressor(model)),
        classes=classes,
        threshold=_threshold(model, classes),
        names=() if names == tuple(map(str, range(len(names)))) else names,
    )


def _refuse(model: Estimator) -> None:
    """Refuse a model that reads other things than numbers."""
    names = tuple(map(str, model.feature_names_))
    for kind, shown in _KINDS.items():
        held = getattr(model, f"get_{kind}_feature_indices")()
        if held:
            first = ", ".join(repr(names[i]) for i in held[:5])
            raise ConversionError(
                f"{type(model).__name__} reads {shown} ({first}), which cannot be converted",
                hint="encode these columns in a scikit-learn pipeline in front of the model "
                "(OrdinalEncoder, TargetEncoder), or leave them out",
            )


def _link(loss: str, targets: int, *, classes: bool, regressor: bool) -> Link:
    if classes:
        return Link("softmax" if targets > 1 and loss != "MultiClassOneVsAll" else "sigmoid")
    return Link("exp" if loss in _EXP and regressor else "identity")


def _symmetric(
    tree: dict[str, Any], places: dict[int, int], right: set[int], scale: float, targets: int
) -> Tree:
    """Return a tree of which every level asks the same; the first split is the leaf's lowest bit."""
    splits = tree["splits"] or []
    values = tree["leaf_values"]
    depth = len(splits)
    nodes: Tree = []
    # Nodes of a level in a row, from the root; the root asks the last split.
    for level in range(depth):
        split = splits[depth - 1 - level]
        first = (1 << (level + 1)) - 1
        for i in range(1 << level):
            nodes.append(_branch(split, places, right, first + 2 * i, first + 2 * i + 1))
    for leaf in range(1 << depth):
        chosen = values[leaf * targets : (leaf + 1) * targets]
        nodes.append(Leaf(tuple((k, scale * v) for k, v in enumerate(chosen))))
    return nodes


def _free(root: dict[str, Any], places: dict[int, int], right: set[int], scale: float) -> Tree:
    """Return a tree that grew by leaf or by depth."""
    nodes: list[Any] = []
    waiting: list[tuple[dict[str, Any], int, str]] = [(root, -1, "")]
    while waiting:
        node, parent, side = waiting.pop()
        if parent >= 0:
            nodes[parent] = nodes[parent]._replace(**{side: len(nodes)})
        if "split" not in node:
            value = node["value"]
            listed = value if isinstance(value, list) else [value]
            nodes.append(Leaf(tuple((k, scale * v) for k, v in enumerate(listed))))
            continue
        waiting += [(node[s], len(nodes), s) for s in ("right", "left")]
        nodes.append(_branch(node["split"], places, right, 0, 0))
    return nodes


def _branch(
    split: dict[str, Any], places: dict[int, int], right: set[int], low: int, high: int
) -> Branch:
    """Return ``x > border`` as a branch whose right child is the true one."""
    if split["split_type"] != "FloatFeature":
        raise ConversionError(f"CatBoost splits on {split['split_type']}, which is no number")
    index = split["float_feature_index"]
    border = float(np.float32(split["border"]))
    return Branch(places[index], (Cut(border),), True, index not in right, low, high)  # noqa: FBT003


def _dump(model: Estimator) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.json"
        model.save_model(str(path), format="json")
        held: dict[str, Any] = json.loads(path.read_bytes())
    return held


def _loss(stated: dict[str, Any]) -> str:
    params = stated.get("model_info", {}).get("params", {})
    loss = params.get("loss_function", {})
    return str(loss.get("type", "") if isinstance(loss, dict) else loss) or "unknown loss"


def _has_classes(stated: dict[str, Any]) -> bool:
    return bool(stated.get("model_info", {}).get("class_params"))


def _ranks(stated: dict[str, Any]) -> bool:
    return _loss(stated).startswith(("YetiRank", "PairLogit", "QueryRMSE", "QuerySoftMax", "Stoch"))


def _is_regressor(model: Estimator) -> bool:
    return "Regressor" in type(model).__name__


def _classes(model: Estimator, stated: dict[str, Any]) -> tuple[Any, ...]:
    if not hasattr(model, "predict_proba") or not _has_classes(stated):
        return ()
    return tuple(c.item() if hasattr(c, "item") else c for c in model.classes_)


def _threshold(model: Estimator, classes: tuple[Any, ...]) -> float | None:
    """Return the probability above which the second of two classes is predicted, if it is set."""
    if len(classes) != 2:  # noqa: PLR2004
        return None
    threshold = float(model.get_probability_threshold())
    return None if threshold == 0.5 else threshold  # noqa: PLR2004
