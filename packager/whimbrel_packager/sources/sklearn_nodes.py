"""Writes nodes into a skl2onnx container, one output each, in the precision that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    # skl2onnx ships no types.
    Scope = Any
    Operator = Any
    Container = Any

_DOUBLE = 11  # onnx.TensorProto.DOUBLE
Step = tuple[str, float | None]
"""An operator, with the constant on its right where it takes one."""


class Nodes:
    """Adds nodes to a skl2onnx container, one output each."""

    def __init__(self, scope: Scope, container: Container, kind: int) -> None:
        self._scope, self._container, self.kind = scope, container, kind

    @property
    def is_double(self) -> bool:
        """Whether numbers are float64 here."""
        return self.kind == _DOUBLE

    def node(self, name: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:  # noqa: ANN401 - of ONNX, of any type
        """Add a node of the default domain, or of ai.onnx.ml; return its output."""
        output: str = to or self._scope.get_unique_variable_name("own")
        known = {"TreeEnsembleRegressor": ("ai.onnx.ml", 3), "LabelEncoder": ("ai.onnx.ml", 2)}
        if name in known:
            domain, version = known[name]
            attributes |= {"op_domain": domain, "op_version": version}
        if "to_type" in attributes:  # of a Cast, whose own name for it is taken here
            attributes["to"] = attributes.pop("to_type")
        self._container.add_node(
            name, list(inputs), [output],
            name=self._scope.get_unique_operator_name(name), **attributes,
        )  # fmt: skip
        return output

    def constant(self, values: object, kind: int | None = None) -> str:
        """Add an initializer, of the numbers' kind unless said otherwise."""
        array = np.asarray(values)
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(
            name, kind or self.kind, list(array.shape), array.ravel().tolist()
        )
        return name

    def integers(self, values: object) -> str:
        """Add an initializer of int64."""
        from onnx import TensorProto

        return self.constant(np.asarray(values, dtype=np.int64), TensorProto.INT64)

    def joined(self, operator: Operator) -> str:
        """Return the operator's inputs as one matrix of numbers."""
        cast = [self.cast(value.full_name, value) for value in operator.inputs]
        return cast[0] if len(cast) == 1 else self.node("Concat", *cast, axis=1)

    def cast(self, name: str, value: Any) -> str:  # noqa: ANN401 - a variable of skl2onnx
        """Return a variable as numbers of this graph's kind."""
        from skl2onnx.common.data_types import guess_proto_type

        if guess_proto_type(value.type) == self.kind and _is_float(value.type):
            return str(name)
        output: str = self._scope.get_unique_variable_name("cast")
        self._container.add_node(
            "Cast", [name], [output],
            name=self._scope.get_unique_operator_name("Cast"), to=self.kind,
        )  # fmt: skip
        return output

    def labels(self, score: str, to: str) -> None:
        """Add 1 where the score is not negative, else −1."""
        below = self.node("Less", score, self.constant([0.0]))
        self.node("Where", below, self.integers([-1]), self.integers([1]), to=to)

    def steps(self, steps: Sequence[Step], value: str, to: str) -> None:
        """Add a function's operators."""
        for i, (name, constant) in enumerate(steps):
            inputs = [value] if constant is None else [value, self.constant([constant])]
            value = self.node(name, *inputs, to=to if i == len(steps) - 1 else None)


def _is_float(kind: object) -> bool:
    return type(kind).__name__ in {"FloatTensorType", "DoubleTensorType"}


def nodes(scope: Scope, operator: Operator, container: Container) -> Nodes:
    """Return a writer in the precision of an operator's inputs."""
    from onnx import TensorProto

    double = any(type(v.type).__name__ == "DoubleTensorType" for v in operator.inputs)
    return Nodes(scope, container, TensorProto.DOUBLE if double else TensorProto.FLOAT)
