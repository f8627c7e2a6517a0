"""Keras models and TensorFlow's SavedModels, by tf2onnx.

keras' own ONNX export is tf2onnx too, with an older operator set and without what is put right in
`keras_graph`. A ``.keras`` file is opened in safe mode: layers of one's own and lambdas are code,
and refused by name. A SavedModel holds a graph instead of code; one that reads or writes files, or
calls Python, is refused.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager import sources
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
_MISSING_EXTRA = 'pip install "whimbrel-packager[keras]"'
_KINDS = {"float64": "FP64", "int32": "INT32", "int64": "INT64", "bool": "BOOL", "string": "BYTES"}
# A graph's way to files and to Python.
_FOREIGN = {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc",
            "SaveV2", "RestoreV2", "PrintV2", "TFRecordReaderV2", "WholeFileReaderV2"}  # fmt: skip


def open_source(path: Path, options: Options) -> NetworkSource:
    """Load a ``.keras`` file or a SavedModel; see `whimbrel_packager.sources.open_source`."""
    _require(str(path))
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
    _require("the model")
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


def _require(what: str) -> None:
    """Import TensorFlow and tf2onnx, quietly and on one thread; `UsageError` names the extra."""
    # oneDNN orders sums by processor, and its ReLU makes 0 of NaN.
    os.environ.update(KERAS_BACKEND="tensorflow", TF_ENABLE_ONEDNN_OPTS="0",
                      CUDA_VISIBLE_DEVICES="-1")  # fmt: skip
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with quiet():
            import keras
            import tensorflow as tf  # noqa: F401 - what keras runs on here
            import tf2onnx  # noqa: F401 - imported to know that it is there
    except ImportError as error:
        raise UsageError(
            f"{what}: reading Keras models needs {error.name}, which is not installed here",
            hint=_MISSING_EXTRA,
            code="usage.extra",
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"{what}: Keras runs on {keras.backend.backend()} in this process, and models are "
            "converted from TensorFlow",
            hint="give the path of a saved .keras file, or set KERAS_BACKEND=tensorflow",
        )


def _kept(path: Path, options: Options) -> KerasNetwork:
    """Open a ``.keras`` file."""
    import keras
    import tensorflow as tf

    foreign = _foreign_classes(path)
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


def _foreign_classes(path: Path) -> list[str]:
    """Return the classes that a ``.keras`` file names and Keras does not have, and lambdas."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is not a .keras file: {error}",
            hint="save the model with model.save('model.keras')",
            code="input.model",
        ) from error
    found: dict[str, None] = {}

    def look(node: object) -> None:
        if isinstance(node, dict):
            module, name = node.get("module"), node.get("class_name")
            if name == "__lambda__":
                found["a lambda"] = None
            elif isinstance(name, str) and "module" in node:
                own = module is not None and not str(module).startswith(("keras", "builtins"))
                if own or (node.get("registered_name") and module is None):
                    found[f"the class {name!r}"] = None
            for value in node.values():
                look(value)
        elif isinstance(node, list):
            for value in node:
                look(value)

    look(config)
    return list(found)


def _saved(path: Path) -> KerasNetwork:
    """Open a SavedModel."""
    import tensorflow as tf

    _refuse_foreign(path)
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


def _refuse_foreign(path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    held = saved_model_pb2.SavedModel()
    try:
        held.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise InputError(
            f"{path} is not a SavedModel: {error}", hint="save it again", code="input.model"
        ) from error
    found = set()
    for graph in held.meta_graphs:
        # Saving and restoring is what the functions with these operators at the top are for.
        functions = graph.graph_def.library.function
        nodes = [node for function in functions for node in function.node_def
                 if not _is_saver(function.signature.name)]  # fmt: skip
        found |= {node.op for node in nodes} & _FOREIGN
    if found:
        raise UsageError(
            f"{path} reaches outside its graph: {', '.join(sorted(found))}",
            hint="save a model whose graph computes on its inputs alone",
            code="usage.foreign",
        )


def _is_saver(name: str) -> bool:
    return "traced_save" in name or "traced_restore" in name
