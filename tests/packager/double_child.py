"""A child that converts with float64 inputs: over a forest trained with NaN, that never returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_packager.conversion import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Request(msgspec.Struct, frozen=True):
    model: str
    columns: int


def work(request: Request, folder: Path, stage: Callable[[str], None]) -> None:
    stage("loading")
    import joblib
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType

    model = joblib.load(request.model)
    stage("converting")
    types = [("x", DoubleTensorType([None, request.columns]))]
    convert_sklearn(model, initial_types=types)


if __name__ == "__main__":
    child.main(Request, work)
