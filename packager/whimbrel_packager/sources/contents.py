"""Model files that are told apart by what is in them: .json, .txt, .model and .bin.

Only the beginning is read, and nothing is loaded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from whimbrel_core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_BEGINNING = 1 << 16
# The first word of a JSON object, or of one in UBJSON ({L\0\0\0\0\0\0\0\7learner).
_FIRST_KEY = re.compile(rb'\A\s*\{\s*"(\w+)"')
_UBJSON = re.compile(rb"\A\{[iUIlL]\x00*[\x01-\x40](learner|version)")
# Zeros of the learner's parameters, then the length of the objective's name in 64 bits, and it.
_OLD_XGBOOST = re.compile(rb"\0{8}.\0{7}(?:binary|multi|reg|rank|count|survival):[a-z]+", re.DOTALL)
_JSON_KEYS = {
    b"learner": "xgboost",
    b"version": "xgboost",
    b"features_info": "catboost",
    b"model_info": "catboost",
    b"oblivious_trees": "catboost",
    b"ctr_data": "catboost",
}
_EARLY_KEY = re.compile(rb'"(learner|oblivious_trees|features_info|tree_info)"')


def framework(path: Path) -> str:
    """Return the framework that wrote a file.

    Raises:
        UsageError: there is no such file, or it is no model that can be loaded; says what it is.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_BEGINNING)
    except OSError as error:
        raise UsageError(f"there is no model file {path}") from error
    if start.startswith(b"CBM1"):
        return "catboost"
    if _UBJSON.match(start):
        return "xgboost"
    if re.match(rb"tree\r?\nversion=v\d", start):
        return "lightgbm"
    if start.startswith((b"binf", b"bs64")) or _OLD_XGBOOST.search(start[:256]):
        raise UsageError(
            f"{path} is in the old binary format of XGBoost, which XGBoost 3.1 and later no longer "
            "read",
            hint="load it with XGBoost 2 and save it again: "
            "xgboost.Booster(model_file=…).save_model('model.ubj')",
            code="usage.format",
        )
    found = _FIRST_KEY.match(start)
    if found:
        return _of_json(path, start, found[1])
    raise UsageError(
        f"{path} is no model of XGBoost, LightGBM or CatBoost",
        hint="save it with the framework's own save_model(): model.ubj, model.txt or model.cbm",
        code="usage.format",
    )


def _of_json(path: Path, start: bytes, key: bytes) -> str:
    early = _EARLY_KEY.search(start)
    if b'"tree_info"' in start and b'"num_tree_per_iteration"' in start:
        raise UsageError(
            f"{path} is a dump of LightGBM's (dump_model), which LightGBM cannot load again",
            hint="save the model with save_model('model.txt')",
            code="usage.format",
        )
    if key in _JSON_KEYS and (key != b"version" or (early and early[1] == b"learner")):
        return _JSON_KEYS[key]
    raise UsageError(
        f"{path} is JSON, but no model of XGBoost or CatBoost",
        hint="save the model with its own save_model()",
        code="usage.format",
    )
