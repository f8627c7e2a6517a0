"""PyTorch: exported programs, modules and scripts, by torch's own exporter."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ConversionError
from whimbrel_packager import feeds
from whimbrel_packager import frame as frames
from whimbrel_packager.sources import network_inputs, torch_export, torch_files
from whimbrel_packager.sources.foreign import quiet
from whimbrel_packager.sources.network import EXAMPLE_ROWS, Made, NetworkSource
from whimbrel_packager.sources.network_boundary import OPSET
from whimbrel_packager.sources.network_inputs import Input

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from whimbrel_packager.frame import Frame
    from whimbrel_packager.sources import Options
    from whimbrel_packager.untyped import Proto

    Array = np.ndarray[Any, Any]
    Torch = Any
    """A module, program or tensor of torch, which is not installed where types are checked."""


def open_source(path: Path, options: Options) -> NetworkSource:
    """Load a model file; see `whimbrel_packager.sources.open_source`."""
    return NetworkSource(TorchNetwork(torch_files.load(path, options)), options)


def given_file(model: object, frame: Frame, folder: Path, options: Options) -> Path | None:
    """Return a caller's own module, script or program as a file; None if it is nothing of torch.

    A module is exported here, where its code is: a child process would have to import it.

    Raises:
        ConversionError: the module cannot be exported.
        InputError: the data does not fit it.
    """
    import torch

    if not isinstance(model, torch.nn.Module | torch.export.ExportedProgram):
        return None
    torch_files.require("the model")
    if isinstance(model, torch.jit.ScriptModule):
        torch.jit.save(model, str(folder / "given.pt"))
        return folder / "given.pt"
    if isinstance(model, torch.nn.Module):
        own = TorchNetwork(model)
        source = NetworkSource(own, options)
        chosen = frame.select(source.columns(frame), what=own.estimator)
        rows = chosen.take(np.arange(EXAMPLE_ROWS) % frame.rows)
        placed = network_inputs.place(
            own.inputs(rows), rows, matrix=options.matrix_input, what=own.estimator
        )
        own.prepare(placed.arrays(rows))
        model = own.program
    with quiet():
        torch.export.save(model, folder / "given.pt2")
    return folder / "given.pt2"


class TorchNetwork:
    """A loaded exported program, module or script."""

    framework = "pytorch"
    converter = "torch.onnx"

    def __init__(self, model: Torch) -> None:
        import torch

        self.framework_version = self.converter_version = str(torch.__version__)
        self.program = model if isinstance(model, torch.export.ExportedProgram) else None
        self._module = None if self.program is not None else model
        self._run: Torch = None
        self._tried: list[Input] = []
        self._taken = False
        if self.program is not None:
            self.estimator = torch_export.program_name(self.program)
            torch_export.require_inference(self.program, self.estimator)
        else:
            self.estimator = torch_export.module_name(model)
        torch_export.require_full_precision(model, self.estimator)

    def inputs(self, frame: Frame) -> list[Input]:
        """Return the inputs of a program as it has them, of a module as its code and data say."""
        if self.program is not None:
            return torch_export.program_inputs(self.program, self.estimator)
        kind = "FP64" if torch_export.float_type(self._module) == "float64" else "FP32"
        names = torch_export.argument_names(self._module)
        looks_up = torch_export.looks_up(self._module)
        inputs = []
        for name in names:
            columns = [frame.columns[name]] if len(names) > 1 and name in frame.columns else [
                *frame.columns.values()]  # fmt: skip
            whole = looks_up and all(column.dtype.kind in "iu" for column in columns)
            inputs.append(Input(name, "INT64" if whole else kind))
        return self._of_bytes(inputs, frame) or inputs

    def _of_bytes(self, inputs: list[Input], frame: Frame) -> list[Input]:
        """Return the inputs with those of images as bytes that the code takes as such, or []."""
        alone = len(inputs) == 1 and len(frame.names) == 1
        own = {one.name: frame.names[0] if alone else one.name for one in inputs}
        kinds = {one.name: frames.narrow(frame.columns.get(own[one.name])) for one in inputs}
        typed = [Input(one.name, kinds[one.name] or one.kind, one.tail) for one in inputs]
        if typed == inputs or any(own[one.name] not in frame.columns for one in inputs):
            return []
        if typed != self._tried:
            rows = frame.take(slice(0, EXAMPLE_ROWS))
            narrow, floats = (
                list(feeds.of(rows, [(own[i.name], i.kind, (-1, -1)) for i in some], None).values())
                for some in (typed, inputs)
            )
            self._tried, self._taken = typed, torch_export.takes(self._module, narrow, floats)
        return typed if self._taken else []

    def prepare(self, fed: Sequence[Array]) -> None:
        """Export a module, or once more a program whose batch was frozen, with a free batch."""
        if self.program is None:
            if not torch_export.is_script(self._module):
                self.program = torch_export.program(self._module, fed, self.estimator)
                torch_export.require_inference(self.program, self.estimator)
            return
        frozen = [size for size in torch_export.batches(self.program) if size != -1]
        if not frozen:
            return
        graph = self.program.module(check_guards=False)
        try:
            self.program = torch_export.program(graph, fed, self.estimator)
        except ConversionError as error:
            raise ConversionError(
                f"{self.estimator} was exported for a batch of {frozen[0]} rows alone, and cannot "
                f"be exported again for any other: {error.message}",
                hint="export it with dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)",
            ) from error

    def answer(self, fed: Sequence[Array]) -> Made:
        """Return what torch itself computes."""
        import torch
        from torch.utils import _pytree as pytree

        if self._run is None:
            program = self.program
            self._run = self._module if program is None else program.module(check_guards=False)
        given = [torch.from_numpy(np.ascontiguousarray(array)) for array in fed]
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = self._run(*given)
        except (RuntimeError, IndexError, AssertionError) as error:
            raise torch_export.refused_rows(error) from error
        names: list[str] = []
        values: list[Array] = []
        for path, leaf in pytree.tree_flatten_with_path(made)[0]:
            if isinstance(leaf, torch.Tensor):
                words = [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]
                names.append("_".join(filter(None, words)) or f"output_{len(names)}")
                values.append(leaf.detach().numpy())
        if not values or any(not value.ndim for value in values):
            raise ConversionError(
                f"{self.estimator} returns {'a number' if values else 'nothing'} for all rows",
                hint="let forward return tensors with one row for each row of input",
            )
        return Made(names, values)

    def to_onnx(self, fed: Sequence[Array]) -> Proto:
        """Return the plain conversion: of a program by the newer exporter, of a script by the old."""
        import torch

        held = self.program if self.program is not None else self._module
        torch_export.require_size(held, self.estimator)
        try:
            with quiet():
                if self.program is None:
                    return torch_export.script_to_onnx(self._module, fed)
                done = torch.onnx.export(
                    self.program, dynamo=True, opset_version=OPSET, verbose=False
                )
                return done.model_proto
        except MemoryError:
            raise
        except Exception as error:
            raise torch_export.refusal(self.estimator, error) from error

    def rewrites(self) -> tuple[str, ...]:
        """Return none: what is done to a frozen batch is not done to the conversion."""
        return ()
