"""Names for values of packages that ship no types: they say what is meant, and check nothing."""

from __future__ import annotations

from typing import Any, TypeAlias

Proto: TypeAlias = Any
"""A message of ONNX: `onnx.ModelProto`, `GraphProto`, `NodeProto`, or a list of `ValueInfoProto`."""

Estimator: TypeAlias = Any
"""A fitted object of scikit-learn, or a table or type that it takes."""
