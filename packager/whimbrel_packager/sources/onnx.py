"""Raw ONNX: whatever another tool exported, as one self-contained file.

There is nothing to convert, but there is something to prove: the canonical model, with every
optimisation of the runtime, answers as the given file does with none. So it is when a batch that
the export froze is freed: the file is asked in batches of its own size.

A model of columns is told by its outputs, as converters of tables write them. One of images or
sequences, or one whose output a person names, is a network (`OnnxNetwork`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import onnx

from whimbrel_core.bundle.datatypes import RANGES
from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager import feeds
from whimbrel_packager.conversion.canonical import signature
from whimbrel_packager.frame import datatype
from whimbrel_packager.sources import Description, Options, onnx_repairs, thresholds
from whimbrel_packager.sources.network import Made, NetworkSource
from whimbrel_packager.sources.network_boundary import IR_VERSION
from whimbrel_packager.sources.network_inputs import Input

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from whimbrel_core.bundle.manifest import Task
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources.thresholds import Thresholds
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]

_MATRIX_DIMENSIONS = 2
_PROBABILITY_SLACK = 1e-3


class OnnxSource:
    """A loaded model file."""

    reads_blocks = True

    def __init__(self, proto: Proto, options: Options, what: str) -> None:
        self.proto = proto
        self.options = options
        self.estimator = what
        fed = {tensor.name for tensor in proto.graph.initializer}
        # Models of IR version 3 list their weights among the inputs.
        kept = [value for value in proto.graph.input if value.name not in fed]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)
        onnx_repairs.require_known_domains(proto, what)
        self.classes = onnx_repairs.take_out_zipmaps(proto)
        self.rewrites = ("ZipMap taken out",) if self.classes else ()
        self.batch, self._given = onnx_repairs.free_batch(proto)
        if self.batch:
            self.rewrites = (*self.rewrites, "batch dimension freed")
        self._network: NetworkSource | None = None
        self.inputs = signature(proto.graph.input, what="input")
        self.outputs = signature(proto.graph.output, what="output")
        if not self.inputs or not self.outputs:
            raise ConversionError(f"{what} has no inputs or no outputs")
        self._session: Any = None

    @classmethod
    def open(cls, path: Path, options: Options) -> OnnxSource:
        """Load a model file, with its external data inlined."""
        try:
            proto = onnx.load(path, load_external_data=False)
        except MemoryError:
            raise
        except Exception as error:
            raise InputError(
                f"{path} is not an ONNX model: {str(error).splitlines()[0] if str(error) else ''}",
                hint="export it again",
                code="input.model",
            ) from error
        if not proto.graph.node:
            raise InputError(f"{path} is not an ONNX model: it has no nodes", code="input.model")
        onnx_repairs.inline(proto, path)
        return cls(proto, options, f"ONNX model {path.name}")

    @property
    def matrix(self) -> str | None:
        """Name of the one (n, F) input, or None for one input per column."""
        name, kind, shape = self.inputs[0]
        wide = len(shape) == _MATRIX_DIMENSIONS and shape[1] != 1
        return name if len(self.inputs) == 1 and wide and kind == "FP32" else None

    def columns(self, frame: Frame) -> tuple[str, ...]:
        """Return the columns that the model reads: by input name, or all of a matrix in order."""
        deep = any(len(shape) > _MATRIX_DIMENSIONS for _, _, shape in self.inputs)
        said = self.options.output or self.options.main_output
        if frame.blocks or deep or said or (len(self.inputs) == 1 and self._is_whole_matrix):
            self._network = NetworkSource(OnnxNetwork(self), self.options, own_names=True)
            return self._network.columns(frame)
        if self.matrix is not None:
            wide = self.inputs[0][2][1]
            if wide not in (-1, len(frame.names)):
                raise InputError(
                    f"input {self.matrix!r} has {wide} columns, the reference data has "
                    f"{len(frame.names)} besides the label",
                    hint="leave other columns out of the reference data",
                    code="input.column",
                )
            return frame.names
        for name, _kind, shape in self.inputs:
            if shape not in ((-1,), (-1, 1)):
                raise ConversionError(
                    f"input {name!r} has the shape {shape}; accepted are one (batch, columns) "
                    "matrix of floats, or several inputs of one column each",
                    hint="flatten it inside the model",
                )
        names = tuple(name for name, _, _ in self.inputs)
        chosen = frame.select(names, what=self.estimator)
        for name, kind, _shape in self.inputs:
            got = datatype(chosen.columns[name])
            if (kind == "BYTES") != (got == "BYTES"):
                raise InputError(
                    f"input {name!r} is {kind}, column {name!r} of the reference data is {got}",
                    code="input.column",
                )
        return names

    @property
    def _is_whole_matrix(self) -> bool:
        _name, kind, shape = self.inputs[0]
        return kind in RANGES and len(shape) == _MATRIX_DIMENSIONS and shape[1] != 1

    def attempts(self, frame: Frame) -> tuple[tuple[str, ...], ...]:
        """Return the plain way; for a network what a network may need."""
        return ((),) if self._network is None else self._network.attempts(frame)

    def convert(self, frame: Frame, rewrites: tuple[str, ...] = ()) -> tuple[Any, Description]:
        """Return the model as it is."""
        remedy = "export it with a dynamic first dimension" if self.batch else ""
        if self._network is not None:
            proto, described = self._network.convert(frame, rewrites)
            return proto, msgspec.structs.replace(described, remedy=remedy)
        outputs = self.predict(frame.take(slice(0, 64)))
        roles = self._roles(outputs)
        task = self.options.task or (
            "classification" if {"label", "probabilities"} & set(roles.values()) else "regression"
        )
        classes = self._classes(outputs, roles) if task == "classification" else ()
        if task == "regression":
            roles = {n: "value" if r == "probabilities" else r for n, r in roles.items()}
        producer = f"{self.proto.producer_name} {self.proto.producer_version}".strip()
        return self.copied(), Description(
            framework="onnx",
            framework_version=str(onnx.__version__),
            estimator=f"{producer} model".strip() if producer else "ONNX model",
            converter="none",
            converter_version="",
            task=cast("Task", task),
            columns=frame.names,
            matrix=self.matrix,
            roles=roles,
            classes=classes,
            rewrites=self.rewrites,
            remedy=remedy,
        )

    def copied(self) -> Proto:
        """Return the model as it is packed, in a version of the format that older runtimes read."""
        proto = onnx.ModelProto.FromString(self.proto.SerializeToString())
        proto.ir_version = min(proto.ir_version, IR_VERSION)
        return proto

    def predict(self, frame: Frame) -> dict[str, Array]:
        """Run the file as it was given, without optimisations."""
        return self._network.predict(frame) if self._network else self.run(self.feed(frame))

    def run(self, fed: dict[str, Array]) -> dict[str, Array]:
        """Run the file as it was given, without optimisations, in batches that it takes.

        Raises:
            ValueError: it does not accept these rows.
            ConversionError: it cannot be run at all.
        """
        import onnxruntime

        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.intra_op_num_threads = 1
            options.log_severity_level = 4
            try:
                self._session = onnxruntime.InferenceSession(
                    self._given or self.proto.SerializeToString(),
                    options,
                    providers=["CPUExecutionProvider"],
                )
            except Exception as error:
                raise _refusal(self.estimator, error) from error
        names = [name for name, _, _ in self.outputs]
        try:
            if self.batch:
                values = onnx_repairs.in_batches(self._session, names, fed, self.batch)
            else:
                values = self._session.run(names, fed)
        except Exception as error:
            raise ValueError(str(error)) from error
        return dict(zip(names, values, strict=True))

    def feed(self, frame: Frame) -> dict[str, Array]:
        """Return a frame as this model's input arrays."""
        return feeds.of(frame, self.inputs, self.matrix)

    def thresholds(self) -> Thresholds:
        """Return nothing: the trees of the converted model are the same trees."""
        return thresholds.listed()

    def _roles(self, outputs: dict[str, Array]) -> dict[str, str]:
        roles: dict[str, str] = {}
        for name, array in outputs.items():
            flat = array.ndim == 1 or (array.ndim == _MATRIX_DIMENSIONS and array.shape[1] == 1)
            if array.dtype.kind in "OUib" and flat and len(outputs) > 1:
                roles[name] = "label"
            elif (array.dtype.kind == "f" and not flat and _is_distribution(array)) or (
                array.dtype.kind == "f" and flat and self.options.task == "classification"
            ):
                roles[name] = "probabilities"
            elif array.dtype.kind == "f" and flat:
                roles[name] = "value"
            else:
                roles[name] = "other"
        if set(roles.values()) == {"other"}:
            raise ConversionError(
                f"{self.estimator}: no output is a label, probabilities or a value "
                f"({', '.join(f'{n} {a.dtype}{a.shape}' for n, a in outputs.items())})",
                hint="add a softmax for probabilities, or give --task",
            )
        return roles

    def _classes(self, outputs: dict[str, Array], roles: dict[str, str]) -> tuple[str, ...]:
        width = next(
            (outputs[n].shape[1] if outputs[n].ndim > 1 else 1
             for n, role in roles.items() if role == "probabilities"), 0)  # fmt: skip
        width = 2 if width == 1 else width
        if self.options.classes:
            if width and len(self.options.classes) != width:
                raise UsageError(
                    f"--classes names {len(self.options.classes)} classes, the model has {width}"
                )
            return self.options.classes
        if self.classes:
            return self.classes
        for node in self.proto.graph.node:
            for attribute in node.attribute:
                if attribute.name in {"classlabels_strings", "classlabels_ints",
                                      "classlabels_int64s"}:  # fmt: skip
                    names = [s.decode() for s in attribute.strings] or [*map(str, attribute.ints)]
                    if len(names) == width or (not width and names):
                        return tuple(names)
        if not width:
            raise UsageError(
                f"{self.estimator} does not say its classes", hint="give --classes a,b,…"
            )
        return tuple(map(str, range(width)))


class OnnxNetwork:
    """A model file as a network: of images, sequences, or with an output that a person names."""

    framework = "onnx"
    converter = "none"
    converter_version = ""

    def __init__(self, source: OnnxSource) -> None:
        self._source = source
        self.framework_version = str(onnx.__version__)
        self.estimator = source.estimator

    def inputs(self, frame: Frame) -> list[Input]:  # noqa: ARG002 - the file says it all
        """Return the inputs of the file."""
        return [Input(name, kind, shape[1:]) for name, kind, shape in self._source.inputs]

    def prepare(self, fed: Sequence[Array]) -> None:
        """Do nothing: a file is ready."""

    def answer(self, fed: Sequence[Array]) -> Made:
        """Return what the file answers, without optimisations."""
        names = [name for name, _, _ in self._source.inputs]
        made = self._source.run(dict(zip(names, fed, strict=True)))
        return Made(list(made), list(made.values()))

    def to_onnx(self, fed: Sequence[Array]) -> Proto:  # noqa: ARG002 - nothing to follow
        """Return the file as it is."""
        return self._source.copied()

    def rewrites(self) -> tuple[str, ...]:
        """Return what was put right when it was read."""
        return self._source.rewrites


def _is_distribution(array: Array) -> bool:
    inside = bool(np.all((array >= 0) & (array <= 1 + _PROBABILITY_SLACK)))
    return inside and bool(np.allclose(array.sum(axis=-1), 1, atol=_PROBABILITY_SLACK))


def _refusal(what: str, error: Exception) -> ConversionError:
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return ConversionError(
        f"{what} cannot be run here: {text[:300]}",
        hint="export it for an operator set that onnxruntime 1.17 knows (20 and below)",
    )
