"""Hyperparameters: what an estimator was told before it was fitted, and what it is made of."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whimbrel_packager.sources import Source

    Plain = str | int | float | bool | None

_MAX_CHARS = 200


def of(source: Source) -> dict[str, Plain]:
    """Return the plain parameters of a source's model by name, in order; {} when it has none.

    Steps, functions and arrays are left out, and so is what leads to a folder of one machine.
    """
    stated = _stated(source)
    found: dict[str, Plain] = {}
    for name in sorted(map(str, stated)):
        value = stated.get(name)
        item = getattr(value, "item", None)
        if item is not None and getattr(value, "ndim", None) == 0:
            value = item()  # a scalar of numpy
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)  # JSON has no word for it
        if isinstance(value, str) and (len(value) > _MAX_CHARS or PurePath(value).is_absolute()):
            continue
        if value is None or isinstance(value, bool | int | float | str):
            found[name] = value
    return found


def libraries(source: Source) -> tuple[str, ...]:
    """Return the modules that a model and its steps come from, e.g. ``("sklearn", "xgboost")``."""
    parts = [_model(source), *_stated(source).values()]
    roots = {type(part).__module__.split(".")[0] for part in parts if hasattr(part, "get_params")}
    return tuple(sorted(roots - {"__main__", "builtins"}))


def _model(source: Source) -> object:
    # A source of models in a directory has the model in another source.
    return getattr(getattr(source, "inner", source), "model", None)


def _stated(source: Source) -> dict[str, Any]:
    ask = getattr(_model(source), "get_params", None)
    if ask is None:
        return {}
    try:
        return dict(ask())
    except Exception:  # noqa: BLE001 - foreign code; the record stands without
        return {}
