"""The conversion's two child processes, run in this process: importing scikit-learn takes seconds."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import msgspec

from whimbrel_packager import frame
from whimbrel_packager import recipe as recipes
from whimbrel_packager.conversion import child, conversion, parity, proving, runtime
from whimbrel_packager.sources import Options, given


class Run(NamedTuple):
    done: conversion.Conversion
    answers: runtime.Answers
    proof: parity.Proof
    limit: parity.Tolerance
    frame: frame.Frame


def convert(model: object, data: object, folder: Path, **options: object) -> conversion.Conversion:
    table = frame.of(data)
    chosen = Options(**{"allow_pickle": True, **options})  # type: ignore[arg-type]
    if isinstance(model, Path):
        path = model
    elif hasattr(model, "SerializeToString"):
        path = folder / "given.onnx"
        path.write_bytes(model.SerializeToString())
    else:
        path = folder / "model.joblib"
        joblib.dump(model, path)
    with InProcess():
        home = folder / "conversion"
        home.mkdir()
        request = conversion.Request(str(path.resolve()), chosen)
        running = conversion.start(request, table, home, child.Limits())
        return conversion.collect(running, home, "test", None)


def prove(model: object, data: object, rtol: float = 1e-4, **options: object) -> Run:
    """Convert and prove a model as `whimbrel_packager.build` does."""
    with tempfile.TemporaryDirectory() as scratch, InProcess():
        folder = Path(scratch)
        done = convert(model, data, folder, **options)
        chosen = frame.of(data).select(done.result.description.columns, what="test")
        answers = proving.run(
            done, chosen, folder, limits=child.Limits(), what="test", tell=lambda _stage: None
        )
        limit = parity.tolerance(rtol, None, done)
        proof = parity.prove(done, answers.outputs["corpus"], limit, "test")
        return Run(done, answers, proof, limit, chosen)


class Whole(NamedTuple):
    done: conversion.Conversion
    proof: parity.Proof
    limit: parity.Tolerance
    rewrites: tuple[str, ...]


def whole(
    model: object, data: object, folder: Path, limits: child.Limits | None, **options: object
) -> Whole:
    """Convert and prove a model as `whimbrel_packager.build` does, up to its profile."""
    table = frame.of(data)
    path, chosen = given.model_file(model, folder, Options(**options), table)  # type: ignore[arg-type]
    limits = limits or child.Limits()
    recipe = recipes.Recipe(name="case", version="1.0.0", source=chosen, limits=limits)

    found = proving.first_proven(
        recipe,
        path,
        table,
        folder,
        options=chosen,
        tell=lambda _stage: None,
        check=lambda _done: None,
    )
    done, _, _, proved = found
    return Whole(done, proved.proof, proved.limit, done.result.description.rewrites)


class InProcess:
    """While it is entered, `child.start` does the work at once, here."""

    def __enter__(self) -> None:
        self._start = child.start

        def start(
            module: str, folder: Path, request: msgspec.Struct, limits: child.Limits
        ) -> object:
            body: Any = importlib.import_module(module)
            (folder / child.REQUEST).write_bytes(
                msgspec.json.encode({"limits": limits, "request": request})
            )
            with warnings.catch_warnings():
                # A child process does not make errors of other packages' warnings.
                warnings.simplefilter("ignore")
                body.work(request, folder, lambda _stage: None)
            return _Done()

        child.start = start  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        child.start = self._start


class _Done:
    def wait(self, *_: object) -> None: ...

    def kill(self) -> None: ...
