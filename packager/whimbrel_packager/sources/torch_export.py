"""Exporting modules of PyTorch: with a free batch dimension, as in inference, by name if not.

The exporter freezes the batch dimension unless it is told not to, and keeps dropout and batch
statistics of a module that is still in training mode: the first is told always, the second
prevented where there is a module and refused where there is only its graph.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager.conversion.canonical import MAX_MODEL_BYTES
from whimbrel_packager.sources.foreign import quiet, reason
from whimbrel_packager.sources.network_boundary import OPSET
from whimbrel_packager.sources.network_inputs import Input

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]
    Torch = Any
    """A module, program or tensor of torch, which is not installed where types are checked."""

_TRAINING = {
    # operator → position of its flag
    "aten.dropout": 2, "aten.dropout_": 2, "aten.feature_dropout": 2, "aten.alpha_dropout": 2,
    "aten.feature_alpha_dropout": 2, "aten.native_dropout": 2, "aten.batch_norm": 5,
    "aten.instance_norm": -1, "aten._native_batch_norm_legit_functional": 5,
    "aten._native_batch_norm_legit": 5,
}  # fmt: skip
_RANDOM = re.compile(r"aten\.(rand|bernoulli|normal|multinomial|poisson)")


def program(module: Torch, arrays: Sequence[Array], what: str) -> Torch:
    """Return a module as an exported program with a free batch dimension.

    Args:
        module: a module; it is exported as in inference, and left in the mode it was in.
        arrays: a few rows of each of its inputs.
        what: names it in messages.

    Raises:
        ConversionError: its code cannot be exported, e.g. it branches on its data.
    """
    import torch

    given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    free = tuple({0: torch.export.Dim.DYNAMIC} for _ in given)
    try:
        with _inference(module), quiet():
            return torch.export.export(module, tuple(given), dynamic_shapes=free)
    except MemoryError:
        raise
    except Exception as error:
        raise refusal(what, error) from error


def takes(model: Torch, narrow: Sequence[Array], floats: Sequence[Array]) -> bool:
    """Return whether a module's or script's code takes bytes as they are, as it takes floats.

    Code that answers otherwise to bytes than to the same numbers as floats wraps them somewhere,
    which it was hardly trained with.
    """
    mine, usual = _answers(model, narrow), _answers(model, floats)
    if not mine or not usual:
        return bool(mine)
    return len(mine) == len(usual) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for a, b in zip(mine, usual, strict=True)
    )


def _answers(model: Torch, arrays: Sequence[Array]) -> list[Array]:
    """Return a model's outputs, or nothing where it refuses arrays of these types."""
    import torch
    from torch.utils import _pytree as pytree

    given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    try:
        with _inference(model), quiet():
            leaves = pytree.tree_leaves(model(*given))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever it raises: it does not take them
        return []
    return [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


@contextlib.contextmanager
def _inference(module: Torch) -> Iterator[None]:
    """Put a module into inference mode, and back as it was."""
    import torch

    modes = [(part, part.training) for part in module.modules()]
    try:
        # Of the module's own parts: eval() on one that is a subclass may do anything.
        with contextlib.suppress(NotImplementedError):  # an exported graph has its mode built in
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def script_to_onnx(model: Torch, fed: Sequence[Array]) -> Proto:
    """Return TorchScript as ONNX, which the older of torch's two exporters alone reads."""
    import onnx
    import torch

    names = [f"input_{i}" for i in range(len(fed))]
    target = io.BytesIO()
    torch.onnx.export(
        model, tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in fed), target,
        dynamo=False, opset_version=OPSET, input_names=names,
        dynamic_axes={name: {0: "n"} for name in names},
    )  # fmt: skip
    return onnx.load_from_string(target.getvalue())


def require_inference(program: Torch, what: str) -> None:
    """Refuse a graph that behaves as in training, or answers by chance."""
    found = []
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        operator = str(node.target).rpartition(".")[0]
        position = _TRAINING.get(operator)
        if position is not None and len(node.args) > abs(position) and node.args[position] is True:
            found.append(f"{operator.removeprefix('aten.')} in training mode")
        elif _RANDOM.match(str(node.target)):
            found.append(f"{operator.removeprefix('aten.')}, which draws random numbers")
    if found:
        raise ConversionError(
            f"{what} does not answer as in inference: {', '.join(dict.fromkeys(found))}",
            hint="call module.eval() before torch.export.export, and leave random numbers out; "
            "or hand the module itself to whimbrel_packager.pack, which sees to it",
        )


def require_full_precision(model: Torch, what: str) -> None:
    """Refuse half precision, whose sums differ from processor to processor."""
    kinds = {str(t.dtype).removeprefix("torch.") for t in (*model.parameters(), *model.buffers())}
    half = sorted(kinds & {"float16", "bfloat16"})
    if half:
        raise ConversionError(
            f"{what} computes in {half[0]}, whose sums differ from processor to processor, so that "
            "no answer could be proven",
            hint='give it in float32 (module.float()); [optimise] precision = "float16" makes it '
            "small after it is proven",
        )


def require_size(model: Torch, what: str) -> None:
    """Refuse weights that do not fit one file."""
    held = [*model.parameters(), *model.buffers()]
    size = sum(t.numel() * t.element_size() for t in held)
    if size > MAX_MODEL_BYTES:
        raise ConversionError(
            f"{what} has {size} bytes of weights, {MAX_MODEL_BYTES} fit one file",
            hint="quantise or prune it",
        )


def placeholders(program: Torch) -> list[Torch]:
    """Return the example tensors of a program's inputs, in order."""
    wanted = program.graph_signature.user_inputs
    found = {n.name: n.meta["val"] for n in program.graph.nodes if n.op == "placeholder"}
    return [found[name] for name in wanted]


def batches(program: Torch) -> list[int]:
    """Return the batch size that each input was exported for; -1 for any."""
    return [v.shape[0] if isinstance(v.shape[0], int) else -1 for v in placeholders(program)]


def program_inputs(program: Torch, what: str) -> list[Input]:
    """Return the inputs of a program; `ConversionError` for one that is no tensor with rows."""
    import torch

    kinds = {
        torch.float64: "FP64", torch.int32: "INT32", torch.bool: "BOOL",
        torch.uint8: "UINT8", torch.int8: "INT8", torch.int16: "INT16", torch.uint16: "UINT16",
    }  # fmt: skip
    inputs = []
    for name, value in zip(program.graph_signature.user_inputs, placeholders(program), strict=True):
        if not isinstance(value, torch.Tensor) or not value.ndim:
            raise ConversionError(
                f"input {name!r} of {what} is no tensor with rows",
                hint="export it with tensors as arguments, the batch first",
            )
        kind = kinds.get(value.dtype, "FP32" if value.dtype.is_floating_point else "INT64")
        tail = tuple(size if isinstance(size, int) else -1 for size in value.shape[1:])
        inputs.append(Input(name, kind, tail))
    return inputs


def argument_names(model: Torch) -> list[str]:
    """Return the names of what a module's or script's forward takes."""
    if is_script(model):
        return [argument.name for argument in model.forward.schema.arguments[1:]]
    return [
        name for name, one in inspect.signature(model.forward).parameters.items()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ] or ["x"]  # fmt: skip


def looks_up(model: Torch) -> bool:
    """Return whether a module looks whole numbers up in a table."""
    names = (getattr(part, "original_name", type(part).__name__) for part in model.modules())
    return any("Embedding" in name for name in names)


def is_script(model: Torch) -> bool:
    """Return whether a module is TorchScript."""
    return hasattr(model, "original_name") and hasattr(model.forward, "schema")


def float_type(model: Torch) -> str:
    """Return the type of a module's weights, which its inputs have too."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return str(tensor.dtype).removeprefix("torch.")
    return "float32"


def module_name(model: Torch) -> str:
    """Return the name of a module's class."""
    return str(getattr(model, "original_name", type(model).__name__))


def program_name(program: Torch) -> str:
    """Return the name of the class that a program was exported from."""
    for node in program.graph.nodes:
        for _path, kind in (node.meta.get("nn_module_stack") or {}).values():
            return str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    return "exported program"


def refused_rows(error: Exception) -> Exception:
    """Return what a source raises for rows that its model does not accept."""
    if "can't allocate memory" in str(error):
        return MemoryError(str(error))
    return ValueError(reason(error))


def refusal(what: str, error: Exception) -> Exception:
    """Return an exporter's failure as a `ConversionError` that names what is to be changed."""
    text = reason(error)
    if "can't allocate memory" in text:
        return MemoryError(text)
    whole = _whole_text(error)
    missing = re.search(
        r"No ONNX function found for <OpOverload\(op='([\w.]+)'", whole
    ) or re.search(r"(?:operator '|Exporting the operator ')([\w:.]+)' to ONNX", whole)
    if missing:
        return ConversionError(
            f"{what} uses the operator {missing.group(1)}, which has no form in ONNX",
            hint="write that part with other operators of torch",
        )
    if "data-dependent" in whole or "DataDependent" in whole:
        return ConversionError(
            f"{what} branches on its data, and a graph cannot: {text}",
            hint="choose with torch.where, or write the branch with torch.cond",
        )
    if "specialized" in whole or "ConstraintViolation" in whole or "is invalid for input" in whole:
        return ConversionError(
            f"{what} works for one batch size alone: {text}",
            hint="take the batch size from x.shape[0], or use -1 for it in reshape and view",
        )
    return ConversionError(
        f"{what} cannot be exported: {text}",
        hint="the message names the part of the module that torch.export does not take",
    )


def _whole_text(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(texts)
