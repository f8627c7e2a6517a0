"""The incumbent in service: found, verified, and asked about the rows of a new model.

Its signature holds before a byte of it is run, and then it runs as any model does here: in a child
process with limits.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.errors import InputError, UsageError
from whimbrel_core.profile.baseline import Baseline
from whimbrel_packager import feeds
from whimbrel_packager.conversion import runtime
from whimbrel_packager.gates.context import Rival
from whimbrel_packager.quality import predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from whimbrel_core.bundle.manifest import Manifest
    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_packager.conversion.child import Limits
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.gates.incumbent import Incumbent
    from whimbrel_packager.quality.predictions import Predictions
    from whimbrel_packager.recipe import Recipe

    Array = np.ndarray[Any, Any]


_MATRIX = 2  # dimensions


def ask(
    recipe: Recipe,
    declared: Incumbent,
    frame: Frame,
    answered: Predictions,
    *,
    key: PublicKey | None,
    tell: Callable[[str], None],
) -> Rival | None:
    """Return the incumbent's answers; None when there is no earlier release.

    Args:
        recipe: of the new bundle.
        declared: which bundle is the incumbent.
        frame: all columns of the held-out rows.
        answered: the new model's answers to them, with what is true.
        key: that signs the new bundle; the incumbent may be signed with it when it is a file.
        tell: called with the name of each stage that begins.

    Raises:
        UsageError: there is no such bundle, no key is known for it, or it holds another model.
        BundleError, TrustError: it is malformed, or not signed by a trusted key.
        ConversionError: the runtime cannot run it.
    """
    found = _incumbent(recipe, declared, key)
    if found is None:
        return None
    data, keys, what = found
    bundle = bundles.open_bundle(io.BytesIO(data), keys, what=what)
    manifest = bundle.manifest
    if manifest.name != recipe.name:
        raise UsageError(
            f"{what} holds the model {manifest.name!r}, the incumbent of {recipe.name!r} is asked for",
            hint="correct gates.incumbent.bundle",
        )
    if manifest.task != answered.task:
        return Rival(manifest.title, None, f"{manifest.title} is a {manifest.task} model")
    profile = Baseline.decode(bundle.read(bundles.BASELINE))
    fed = _feeds(manifest, profile, frame)
    if isinstance(fed, str):
        return Rival(manifest.title, None, f"{manifest.title} {fed}")
    tell("asking the incumbent")
    outputs = _run(manifest, bundle.read(manifest.model.file), fed, recipe.limits)
    return Rival(
        manifest.title,
        predictions.of(
            outputs,
            {output.name: output.role for output in manifest.outputs},
            answered.truth,
            task=manifest.task,
            classes=manifest.classes,
            positive=answered.positive or None,
        ),
    )


def _incumbent(
    recipe: Recipe, declared: Incumbent, key: PublicKey | None
) -> tuple[bytes, list[PublicKey], str] | None:
    """Return the incumbent's bytes, the keys that it must be signed with, and its name."""
    from whimbrel_packager.signing import keyfiles

    keys = [keyfiles.public(Path(declared.key))] if declared.key else [key] if key else []
    if declared.bundle:
        if not keys:
            raise UsageError(
                "no key is known that the incumbent must be signed with",
                hint="name one with gates.incumbent.key",
            )
        path = Path(declared.bundle)
        try:
            return path.read_bytes(), keys, str(path)
        except OSError as error:
            raise UsageError(
                f"the incumbent {path} cannot be read: {error.strerror}",
                hint="correct gates.incumbent.bundle, or name a repository instead",
            ) from error
    if not declared.repository:
        raise UsageError(
            "the recipe asks for a comparison with the incumbent, and does not say which that is",
            hint="give gates.incumbent.bundle or gates.incumbent.repository",
        )
    from whimbrel_packager.repository import trusted
    from whimbrel_packager.repository.repository import Repository

    repository = Repository(declared.repository)
    targets = repository.targets()
    mine = [
        one for one in repository.released(targets)
        if one.name == recipe.name and one.version != recipe.version
    ]  # fmt: skip
    if not mine:
        return None
    newest = mine[-1]
    if not declared.key:
        keys = [
            one.public
            for one in trusted.named(repository, trusted.PUBLISHERS, targets)
            if {"*", recipe.name} & set(one.models or ("*",))
        ]
    return repository.read(newest.path, targets), keys, newest.path


def _feeds(manifest: Manifest, profile: Baseline, frame: Frame) -> dict[str, Array] | str:
    """Return a frame as a bundle's inputs, or why it cannot be."""
    read = [f for f in profile.layout.features if f.role == "input"]
    fed: dict[str, Array] = {}
    for tensor in manifest.inputs:
        columns = sorted((f for f in read if f.tensor == tensor.name), key=lambda f: f.column)
        names = [f.name for f in columns] or [tensor.name]
        unnamed = [f"x{i}" for i in range(tensor.shape[-1])]
        if names[0] not in frame.columns and not columns and set(unnamed) <= set(frame.columns):
            names = unnamed  # a matrix that is described as a whole
        if columns and len(tensor.shape) == _MATRIX and tensor.shape[1] not in (1, len(names)):
            return f"profiles {len(names)} columns of {tensor.name!r}, and reads others by no name"
        absent = [name for name in names if name not in frame.columns]
        if absent:
            return f"reads {', '.join(map(repr, absent[:5]))}, which the data does not have"
        chosen = frame.select(names, what=manifest.title)
        words = any(column.dtype == object for column in chosen.columns.values())
        if words != (tensor.datatype == "BYTES"):
            return f"reads {names[0]!r} as {tensor.datatype}, and the data has another type"
        single = len(names) == 1 and (len(tensor.shape) == 1 or tensor.shape[1:] == (1,))
        matrix = None if single or chosen.columns[names[0]].ndim > 1 else tensor.name
        declared = [(matrix or names[0], tensor.datatype, tensor.shape)]
        try:
            (fed[tensor.name],) = feeds.of(chosen, declared, matrix).values()
        except InputError as error:
            return f"cannot read the data: {error.message}"
    return fed


def _run(
    manifest: Manifest, model: bytes, fed: Mapping[str, Array], limits: Limits
) -> dict[str, Array]:
    names = tuple(output.name for output in manifest.outputs)
    with tempfile.TemporaryDirectory(prefix="whimbrel-incumbent-") as scratch:
        folder = Path(scratch)
        child = runtime.start(model, {"rows": fed}, names, folder, limits, measure=False)
        try:
            answers = runtime.collect(child, folder, manifest.title, None)
        finally:
            child.kill()
    return answers.outputs["rows"]
