"""Hyperparameters: what an estimator was told before it was fitted, as it still says itself."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel_packager.sources import Source

    Plain = str | int | float | bool | None

_MAX_CHARS = 200


def of(source: Source) -> dict[str, Plain]:
    """Return the plain parameters of a source's model by name, in order; {} when it has none.

    Steps, functions and arrays are left out, and so is what leads to a folder of one machine.
    """
    # A source of models in a directory has the model in another source.
    model = getattr(getattr(source, "inner", source), "model", None)
    ask = getattr(model, "get_params", None)
    if ask is None:
        return {}
    try:
        stated = dict(ask())
    except Exception:  # noqa: BLE001 - foreign code; the record stands without
        return {}
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
