"""Keras models and TensorFlow's SavedModels, by tf2onnx.

keras' own ONNX export is tf2onnx too, with an older operator set and without what is put right in
`keras_graph`. A ``.keras`` file is opened in safe mode: layers of one's own and lambdas are code,
and refused by name. A SavedModel holds a graph instead of code; one that reads or writes files, or
calls Python, is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager import sources
from whimbrel_packager.sources import keras_files
from whimbrel_packager.sources.foreign import quiet, reason
from whimbrel_packager.sources.network import Made, NetworkSource
from whimbrel_packager.sources.network_inputs import Input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources import Options
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]
    Keras = Any
    """A model, function or tensor of TensorFlow, which is not installed where types are checked."""

SIGNATURE = "serving_default"
_KINDS = {
    "float64": "FP64", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "bool": "BOOL", "string": "BYTES",
}  # fmt: skip


def open_source(path: Path, options: Options) -> NetworkSource:
    """Load a ``.keras`` file or a SavedModel; see `whimbrel_packager.sources.open_source`."""
    keras_files.require(str(path))
    if sources.is_saved_model(path):
        return NetworkSource(_saved(path), options)
    return NetworkSource(_kept(path, options), options)


def given_file(model: object, folder: Path) -> Path | None:
    """Return a caller's own Keras model as a file or folder; None if it is none.

    Raises:
        UsageError: TensorFlow or tf2onnx is missing.
        ConversionError: Keras cannot save it.
    """
    import keras

    if not isinstance(model, keras.Model):
        return None
    keras_files.require("the model")
    own = [type(part).__name__ for part in (model, *_layers(model))
           if not type(part).__module__.startswith("keras.") or type(part).__name__ == "Lambda"]  # fmt: skip
    target = folder / ("given" if own else "given.keras")
    try:
        with quiet():
            if own:  # its code is here, and not in the process that converts it
                model.export(str(target), format="tf_saved_model", verbose=False)
            else:
                model.save(str(target))
    except Exception as error:
        raise ConversionError(
            f"{type(model).__name__} cannot be saved: {reason(error)}",
            hint="call it once on data, so that its layers know their shapes",
        ) from error
    return target


class KerasNetwork:
    """A function of TensorFlow with a signature, whatever it came from."""

    framework = "keras"
    converter = "tf2onnx"

    def __init__(self, function: Keras, estimator: str, names: Sequence[str], specs: Keras) -> None:
        import keras
        import tf2onnx

        self.framework_version = str(keras.__version__)
        self.converter_version = str(tf2onnx.__version__)
        self.estimator = estimator
        self._function = function
        self._names = list(names)
        self._specs = list(specs)
        self._rewrites: tuple[str, ...] = ()

    def inputs(self, frame: Frame) -> list[Input]:  # noqa: ARG002 - the signature says it all
        """Return the inputs of the function's signature."""
        return [
            Input(
                name,
                _KINDS.get(spec.dtype.name, "FP32" if spec.dtype.is_floating else "INT64"),
                tuple(-1 if size is None else size for size in spec.shape[1:]),
            )
            for name, spec in zip(self._names, self._specs, strict=True)
        ]

    def prepare(self, fed: Sequence[Array]) -> None:  # noqa: ARG002 - no code is to be followed
        """Refuse a batch that is frozen; nothing else is to be prepared."""
        for name, spec in zip(self._names, self._specs, strict=True):
            if spec.shape.rank is None or not spec.shape.rank or spec.shape[0] is not None:
                raise ConversionError(
                    f"input {name!r} of {self.estimator} has the shape {spec.shape}; the first "
                    "dimension must be the batch, and free",
                    hint="build the model with keras.Input(shape), which leaves the batch free",
                )

    def answer(self, fed: Sequence[Array]) -> Made:
        """Return what TensorFlow itself computes."""
        import tensorflow as tf

        given = [
            tf.constant(array.tolist() if array.dtype == object else array, dtype=spec.dtype)
            for array, spec in zip(fed, self._specs, strict=True)
        ]
        try:
            made = self._function(**dict(zip(self._names, given, strict=True)))
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(str(error)) from error
        except tf.errors.OpError as error:
            raise ValueError(reason(error)) from error
        names = list(made)
        return Made(names, [made[name].numpy() for name in names])

    def to_onnx(self, fed: Sequence[Array]) -> Proto:  # noqa: ARG002 - no code is to be followed
        """Return the conversion, with what tf2onnx lacks put in."""
        from whimbrel_packager.sources import keras_graph

        proto, self._rewrites = keras_graph.convert(
            self._function, self._names, self._specs, self.estimator
        )
        return proto

    def rewrites(self) -> tuple[str, ...]:
        """Return what tf2onnx had to be helped with."""
        return self._rewrites


def _layers(model: Keras) -> list[Keras]:
    """Return the layers of a model, and theirs."""
    found = []
    for layer in getattr(model, "layers", ()):
        found += [layer, *_layers(layer)]
    return found


def _kept(path: Path, options: Options) -> KerasNetwork:
    """Open a ``.keras`` file."""
    import keras
    import tensorflow as tf

    foreign = keras_files.foreign_classes(path)
    if foreign and not options.allow_pickle:
        raise UsageError(
            f"{path} holds {', '.join(foreign)}, which is code that loading it would run or need",
            hint="export it where its code is, with model.export('folder'), and pack the folder; "
            "or give --allow-pickle if you made it and its classes are importable here",
            code="usage.pickle",
        )
    try:
        with quiet():
            model = keras.saving.load_model(
                str(path), compile=False, safe_mode=not options.allow_pickle
            )
    except MemoryError:
        raise
    except Exception as error:
        needs = f": it needs {', '.join(foreign)}" if foreign else f": {reason(error)}"
        raise InputError(
            f"{path} cannot be loaded{needs}",
            hint="export it where its code is, with model.export('folder'), and pack the folder"
            if foreign
            else f"save it again with the Keras of this machine, {keras.__version__}",
            code="input.model",
        ) from error
    if not getattr(model, "inputs", None):
        raise ConversionError(
            f"{path.name} has no inputs of known shape",
            hint="build it with keras.Input, or export it with model.export('folder')",
        )
    names = [re.sub(r"[:/].*", "", tensor.name) for tensor in model.inputs]
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{i}")
        for i, tensor in enumerate(model.inputs)
    ]
    function = _function(model, names, specs)
    return KerasNetwork(function, type(model).__name__, names, specs)


def _function(model: Keras, names: Sequence[str], specs: Keras) -> Callable[..., Keras]:
    """Return a Keras model as a function from inputs by name to outputs by name."""
    import keras
    import tensorflow as tf

    outputs = list(getattr(model, "output_names", None) or [])

    def run(*tensors: Keras) -> Keras:
        struct = getattr(model, "_inputs_struct", None)
        given = tensors[0] if len(tensors) == 1 else list(tensors)
        if struct is not None:
            given = keras.tree.pack_sequence_as(struct, list(tensors))
        made = model(given, training=False)
        flat = keras.tree.flatten(made)
        keys = list(made) if isinstance(made, dict) else outputs
        if len(keys) != len(flat):
            keys = [f"output_{i}" for i in range(len(flat))]
        return dict(zip(keys, flat, strict=True))

    concrete = tf.function(run).get_concrete_function(*specs)

    def called(**tensors: Keras) -> Keras:
        return concrete(*(tensors[name] for name in names))

    called.concrete = concrete  # type: ignore[attr-defined]
    called.model = model  # type: ignore[attr-defined]  # or its variables are collected
    return called


def _saved(path: Path) -> KerasNetwork:
    """Open a SavedModel."""
    import tensorflow as tf

    keras_files.refuse_foreign(path)
    try:
        with quiet():
            loaded = tf.saved_model.load(str(path))
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded as a SavedModel: {reason(error)}",
            hint=f"save it again with the TensorFlow of this machine, {tf.__version__}",
            code="input.model",
        ) from error
    signatures = dict(loaded.signatures)
    if not signatures:
        raise ConversionError(
            f"{path.name} has no signature, so that nothing says what it takes",
            hint="save it with model.export('folder'), or with tf.saved_model.save(…, signatures=…)",
        )
    function = signatures.get(SIGNATURE) or next(iter(signatures.values()))
    specs = function.structured_input_signature[1]
    network = KerasNetwork(_held(function, loaded), "SavedModel", list(specs), specs.values())
    network.framework = "tensorflow"
    network.framework_version = str(tf.__version__)
    return network


def _held(function: Keras, loaded: Keras) -> Callable[..., Keras]:
    """Return a signature as a function that keeps its variables alive."""

    def called(**tensors: Keras) -> Keras:
        return function(**tensors)

    called.concrete = function  # type: ignore[attr-defined]
    called.loaded = loaded  # type: ignore[attr-defined]
    return called
