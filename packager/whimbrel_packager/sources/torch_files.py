"""Files of PyTorch: what one holds, and how much of it may be read.

An exported program (``.pt2``) is a graph with weights, read without running anybody's code. A
pickled module or TorchScript (``.pt``) may run code, and is opened with ``allow_pickle`` alone. A
file of weights (a state_dict) holds no model, and is refused with what to do.
"""

from __future__ import annotations

import os
import re
import zipfile
from typing import TYPE_CHECKING, Any

from whimbrel_core.errors import ConversionError, InputError, UsageError
from whimbrel_packager.sources.foreign import quiet, reason

if TYPE_CHECKING:
    from pathlib import Path

    from whimbrel_packager.sources import Options

    Torch = Any
    """A module, program or tensor of torch, which is not installed where types are checked."""

_MISSING_EXTRA = 'pip install "whimbrel-packager[torch]"'


def load(path: Path, options: Options) -> Torch:
    """Return the exported program, script or module in a file.

    Raises:
        UsageError: it may run code and nobody allowed that, or it holds weights alone.
        InputError: it cannot be read.
        ConversionError: it uses operators that are not torch's own.
    """
    torch = require(f"{path}")
    kind = _kind(path)
    if kind == "program":
        return _load_program(path, options)
    _refuse_weights(torch, path)
    if not options.allow_pickle:
        raise UsageError(
            f"{path} is {'TorchScript' if kind == 'script' else 'a pickle'}, and loading one "
            "runs whatever code is in it",
            hint="save it with torch.export.save(torch.export.export(module.eval(), …), "
            "'model.pt2'), or give --allow-pickle if you made it",
            code="usage.pickle",
        )
    model = _load_script(path) if kind == "script" else _load_module(path)
    model.eval()
    return model


def require(what: str) -> Torch:
    """Import torch; `UsageError` names the extra where it is missing."""
    try:
        import torch
    except ImportError as error:
        raise UsageError(
            f"{what}: reading PyTorch models needs torch, which is not installed here",
            hint=_MISSING_EXTRA,
            code="usage.extra",
        ) from error
    try:
        import onnxscript  # noqa: F401 - torch's exporter is written in it
    except ImportError as error:
        raise UsageError(
            f"{what}: exporting PyTorch models needs onnxscript, which is not installed here",
            hint=_MISSING_EXTRA,
            code="usage.extra",
        ) from error
    return torch


def _kind(path: Path) -> str:
    """Return what a file holds by its members: "program", "script" or "pickle"."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "pickle"  # of torch before 1.6, or nothing of torch at all
    if any(name.endswith(("/archive_format", "archive_format")) for name in names):
        return "program"
    return "script" if any("/code/" in name for name in names) else "pickle"


def _load_program(path: Path, options: Options) -> Torch:
    import torch

    with zipfile.ZipFile(path) as archive:
        foreign = [name for name in archive.namelist() if "/constants/" in name
                   and re.search(r"(custom|opaque)_obj", name)]  # fmt: skip
    if foreign and not options.allow_pickle:
        raise UsageError(
            f"{path} holds pickled objects ({foreign[0].rpartition('/')[2]}), and loading one runs "
            "whatever code is in it",
            hint="export the module without custom objects, or give --allow-pickle if you made it",
            code="usage.pickle",
        )
    # torch falls back to unpickling anything when reading tensors alone has failed.
    force = {} if options.allow_pickle else {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}
    before = {name: os.environ.get(name) for name in force}
    os.environ.update(force)
    try:
        with quiet():
            return torch.export.load(path)
    except MemoryError:
        raise
    except Exception as error:
        text = reason(error)
        operator = re.search(r"torch\.ops\.(\w+\.\w+)", text)
        if operator:
            raise ConversionError(
                f"{path} uses the operator {operator.group(1)}, which is not torch's own and is "
                "not there to be loaded",
                hint="write the module with operators of torch, and export it again",
            ) from error
        raise InputError(
            f"{path} cannot be loaded as an exported program: {text}",
            hint=f"save it again with the torch of this machine, {torch.__version__}",
            code="input.model",
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _refuse_weights(torch: Torch, path: Path) -> None:
    """Refuse a file that holds tensors only; reading these runs no code."""
    try:
        with quiet():
            held = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - it holds more than weights, which the caller looks into
        return
    tensors = _count_tensors(held)
    raise UsageError(
        f"{path} holds weights only (a state_dict, {tensors} tensors), and no model that they "
        "belong to",
        hint="load them into the module, and pack it from Python with whimbrel_packager.pack(module, "
        "…), or save it with torch.export.save",
        code="usage.weights",
    )


def _count_tensors(held: object) -> int:
    if isinstance(held, dict):
        return sum(_count_tensors(value) for value in held.values())
    if isinstance(held, list | tuple):
        return sum(_count_tensors(value) for value in held)
    return int(hasattr(held, "dtype"))


def _load_script(path: Path) -> Torch:
    import torch

    try:
        with quiet():
            return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded as TorchScript: {reason(error)}", code="input.model"
        ) from error


def _load_module(path: Path) -> Torch:
    import torch

    try:
        with quiet():
            model = torch.load(path, map_location="cpu", weights_only=False)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded: {reason(error)}",
            hint="the module's class must be importable here; torch.export.save keeps the model "
            "without its code",
            code="input.model",
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise InputError(
            f"{path} holds a {type(model).__name__}, not a module",
            hint="save the module itself, or better: torch.export.save",
            code="input.model",
        )
    return model
