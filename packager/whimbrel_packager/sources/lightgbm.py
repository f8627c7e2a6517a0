"""LightGBM: boosters, the scikit-learn wrappers, and its text files.

LightGBM compares in float64: ``x <= t``. For a float32 x that is ``x <= t`` rounded down, and not to
the nearest, which is how the plain converter gets values at a threshold wrong. Numbers within 1e-35
of zero are zero to it, and many of its thresholds are just there.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.sources import booster
from whimbrel_packager.sources.booster import Boosted, BoosterSource
from whimbrel_packager.sources.booster_graph import Link
from whimbrel_packager.sources.forest import Branch, Cut, Forest, Leaf, members, pieces

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from whimbrel_packager.sources import Options
    from whimbrel_packager.sources.forest import Pieces, Tree
    from whimbrel_packager.untyped import Estimator

    Array = np.ndarray[Any, Any]

_PLAIN = (
    "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank",
    "rank_xendcg",
)  # fmt: skip
_EXP = ("poisson", "gamma", "tweedie")
_ZERO = float(np.float32(1e-35))  # kZeroThreshold: numbers this near to zero are zero
_LOWEST_CODE = -1.0  # numbers are cut towards zero to become codes, so that -0.5 is 0


def load(path: Path, options: Options) -> BoosterSource:
    """Open a text file."""
    lgb = booster.package(f"reading {path.name}", "lightgbm")
    try:
        model = lgb.Booster(model_file=str(path))
    except Exception as error:
        raise booster.unreadable(
            path, f"LightGBM {lgb.__version__}", error, "save it again with save_model('model.txt')"
        ) from error
    return source(model, options)


def source(model: Estimator, options: Options) -> BoosterSource:
    """Open a `Booster` or a fitted wrapper."""
    return BoosterSource(model, read(model), booster.wrapped(model), options)


def read(model: Estimator) -> Boosted:
    """Return a model as trees, link and columns.

    Raises:
        ConversionError: an objective or a kind of tree that is not known here.
    """
    lgb = booster.package("a LightGBM model", "lightgbm")
    name = type(model).__name__
    try:
        inner = model if isinstance(model, lgb.Booster) else model.booster_
    except Exception as error:
        raise ConversionError(f"{name} is not fitted", hint="fit it, save it again") from error
    text = inner.model_to_string()
    dump = inner.dump_model()
    stated = str(dump.get("objective") or "")
    what = f"{name} ({stated.split(maxsplit=1)[0] if stated else 'an objective of its own'})"
    if "\nis_linear=1" in text:
        raise ConversionError(
            f"{what} has linear trees, with a linear model in each leaf",
            hint="fit it with linear_tree=False",
        )
    targets = int(dump["num_tree_per_iteration"])
    link, classes = _meaning(model, stated, what, targets)
    if targets > 1 and not classes:
        raise booster.several(what, targets)
    rounds = max(1, len(dump["tree_info"]) // targets)
    share = 1 / rounds if dump.get("average_output") else 1.0
    columns = tuple(dump["feature_names"])
    own = columns == tuple(f"Column_{i}" for i in range(len(columns)))
    return Boosted(
        framework="lightgbm",
        version=lgb.__version__,
        estimator=what,
        forest=Forest(
            trees=tuple(
                _tree(tree["tree_structure"], tree["tree_index"] % targets, share)
                for tree in dump["tree_info"]
            ),
            base=(0.0,) * targets,
            features=len(columns),
        ),
        link=link,
        classes=classes,
        names=() if own else columns,
        words=_words(text, dump, what),
        exact=True,
    )


def _meaning(
    model: Estimator, stated: str, what: str, targets: int
) -> tuple[Link, tuple[Any, ...]]:
    """Return the link, and the classes when it is a classifier."""
    objective, *settings = stated.split() or [""]
    given = dict(word.split(":", 1) for word in settings if ":" in word)
    scale = float(given.get("sigmoid", 1.0))
    classes = tuple(c.item() if hasattr(c, "item") else c for c in getattr(model, "classes_", ()))
    if objective == "binary":
        return Link("sigmoid", scale), classes or (0, 1)
    if objective == "multiclass":
        return Link("softmax"), classes or tuple(range(targets))
    if objective == "multiclassova":
        return Link("sigmoid", scale), classes or tuple(range(targets))
    if classes:
        raise ConversionError(
            f"{what} is a classifier whose objective is none of classes",
            hint="fit it with objective='binary' or 'multiclass'",
        )
    if objective == "cross_entropy":
        return Link("sigmoid"), ()
    if objective == "cross_entropy_lambda":
        return Link("softplus"), ()
    if objective in _EXP:
        return Link("exp"), ()
    if objective in _PLAIN:
        return Link("square" if "sqrt" in settings else "identity"), ()
    raise ConversionError(
        f"{what}: it is not known what its sums mean",
        hint="fit with one of LightGBM's own objectives",
    )


def _tree(root: dict[str, Any], target: int, share: float) -> Tree:
    nodes: list[Any] = []
    waiting = [(root, -1, "")]
    while waiting:
        node, parent, side = waiting.pop()
        if parent >= 0:
            nodes[parent][side] = len(nodes)
        if "leaf_value" in node:
            nodes.append(Leaf(((target, share * node["leaf_value"]),)))
            continue
        (cuts, below), missing = _split(node)
        waiting += [(node[f"{s}_child"], len(nodes), s) for s in ("right", "left")]
        nodes.append(
            {"feature": node["split_feature"], "cuts": cuts, "below": below, "missing": missing}
        )
    return [Branch(**node) if isinstance(node, dict) else node for node in nodes]


def _split(node: dict[str, Any]) -> tuple[Pieces, bool]:
    """Return how a node parts numbers, and whether a missing value goes left."""
    if node["decision_type"] == "==":
        codes = [int(word) for word in str(node["threshold"]).split("||") if word]
        return members(codes, left=True, lowest=_LOWEST_CODE), False
    threshold, default = float(node["threshold"]), bool(node["default_left"])
    kind = node["missing_type"]
    # NaN counts as zero where it is not said to be something of its own; so does whatever is
    # near to zero, always.
    zero = default if kind == "Zero" else threshold >= 0
    return _around_zero(threshold, zero), default if kind == "NaN" else zero


def _around_zero(threshold: float, zero: bool) -> Pieces:  # noqa: FBT001
    """Return the pieces of a threshold, with the side on which zero and its surroundings go."""
    cuts = sorted(
        [Cut(-_ZERO, before=True), Cut(_ZERO), Cut(threshold)],
        key=lambda c: (c.value, not c.before),
    )
    # A number inside each piece tells its side.
    inside = [-np.inf, *(c.value if c.before else np.nextafter(c.value, np.inf) for c in cuts)]
    left = [zero if -_ZERO <= x <= _ZERO else bool(x <= threshold) for x in inside]
    return pieces(cuts, left)


def _words(text: str, dump: dict[str, Any], what: str) -> dict[int, tuple[booster.Word, ...]]:
    """Return pandas' categories by column, which are kept in the order of such columns."""
    _, found, rest = text.rpartition("pandas_categorical:")
    listed: Sequence[list[booster.Word]] = (json.loads(rest) if found else None) or ()
    if not listed:
        return {}
    stated = re.search(r"^\[categorical_feature: ([\d,]+)\]$", text, re.MULTILINE)
    columns = [int(word) for word in stated[1].split(",")] if stated else [
        i for i, name in enumerate(dump["feature_names"])
        if dump["feature_infos"].get(name, {}).get("values")
    ]  # fmt: skip
    if len(columns) != len(listed):
        raise ConversionError(
            f"{what} was fitted on {len(listed)} columns of pandas categories and counts "
            f"{len(columns)} columns as categorical: which of them are pandas' cannot be told",
            hint="make all categorical columns pandas categories, and fit again",
        )
    return {i: tuple(words) for i, words in zip(columns, listed, strict=True)}
