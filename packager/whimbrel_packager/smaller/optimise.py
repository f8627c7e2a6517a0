"""The recipe's section about making a network smaller; `optimising` follows it."""

from __future__ import annotations

from typing import Literal

import msgspec


class Optimise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to make a network smaller after it is proven.

    Args:
        precision: of the weights. ``int8-static`` takes the ranges of what happens inside from the
            reference data, ``int8-dynamic`` from the rows of each batch.
        graph: optimisation by onnxruntime before it is packed; a device does the same when it
            loads, so that this saves loading time alone. ``extended`` needs a runtime as new as
            this machine's.
        max_loss: by name: ``accuracy`` and ``auc`` as a difference, ``mae`` and ``rmse`` as a share
            (0.02 is 2 % more), ``disagreement`` as the share of rows with another label,
            ``distance`` as the mean distance of the outputs in units of their spread.
        calibration_rows: of the reference data, for ``int8-static``.
        predecessor: path of the bundle before this one, from the recipe's folder; its int8 scales
            are taken over, so that weights that did not change keep their bytes and a delta is
            small.
    """

    precision: Literal["float32", "float16", "int8-dynamic", "int8-static"] = "float32"
    graph: Literal["none", "basic", "extended"] = "none"
    max_loss: dict[str, float] = {}
    calibration_rows: int = 512
    predecessor: str = ""
