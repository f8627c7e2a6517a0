"""Files of Keras and TensorFlow: which code they would run, and the frameworks to read them."""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING

from whimbrel_core.errors import InputError, UsageError
from whimbrel_packager.sources.foreign import quiet

if TYPE_CHECKING:
    from pathlib import Path

_MISSING_EXTRA = 'pip install "whimbrel-packager[keras]"'
# A graph's way to files and to Python.
_FOREIGN = {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc",
            "SaveV2", "RestoreV2", "PrintV2", "TFRecordReaderV2", "WholeFileReaderV2"}  # fmt: skip


def require(what: str) -> None:
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


def foreign_classes(path: Path) -> list[str]:
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


def refuse_foreign(path: Path) -> None:
    """Refuse a SavedModel whose graph reads or writes files, or calls Python."""
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
