"""Gathering what gates look at: the place where they meet files and this machine.

`judged` makes a `Context` of a proven conversion and asks the gates.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import UsageError
from whimbrel_packager import frame as frames
from whimbrel_packager.gates import definitions as defined
from whimbrel_packager.gates import feast, incumbents
from whimbrel_packager.gates.budgets import Measured
from whimbrel_packager.gates.context import Context
from whimbrel_packager.gates.judgement import judge
from whimbrel_packager.quality import intervals, metrics, predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_packager.baseline import Labelled
    from whimbrel_packager.conversion.conversion import Result
    from whimbrel_packager.conversion.proving import Proven
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.gates.context import Gate
    from whimbrel_packager.gates.declared import Gates
    from whimbrel_packager.gates.outcome import Verdict
    from whimbrel_packager.gates.skew import Skew
    from whimbrel_packager.quality.predictions import Predictions
    from whimbrel_packager.recipe import Recipe
    from whimbrel_packager.reference import Reference

    Array = np.ndarray[Any, Any]
    Tell = Callable[[str], None]


def predicted(
    outputs: Mapping[str, Array], result: Result, labelled: Labelled, positive: int | None
) -> Predictions:
    """Return the model's answers on the held-out rows, with what was true."""
    rows, description = labelled.held_out, result.description
    return predictions.of(
        {name: array[rows] for name, array in outputs.items()},
        description.roles,
        labelled.labels[rows],
        task=description.task,
        classes=description.classes,
        positive=None if positive is None else description.classes[positive],
    )


def judged(
    recipe: Recipe,
    proven: Proven,
    data: Reference,
    *,
    labelled: Labelled | None,
    answered: Predictions | None,
    profile: Baseline,
    bundle_bytes: int,
    own: Sequence[Gate],
    key: PublicKey | None,
    repeatable: bool,
    tell: Tell,
) -> Verdict | None:
    """Return the verdict of all gates; None when there are none.

    Args:
        recipe: with the gates.
        proven: the conversion, with the runtime's answers.
        data: the reference data.
        labelled: its labels and held-out rows; None when there are none.
        answered: the model's answers on the held-out rows; None without labels.
        profile: the baseline.
        bundle_bytes: size of the bundle without signature and outcomes.
        own: gates of the caller's.
        key: that signs the new bundle; an incumbent may be signed with it.
        repeatable: whether times and memory are recorded.
        tell: called with the name of each stage that begins.

    Raises:
        UsageError, InputError: something that a gate names cannot be read.
        TrustError: the incumbent is not signed by a trusted key.
    """
    gates = recipe.gates
    if gates == type(gates)(confidence=gates.confidence, groups=gates.groups) and not own:
        return None
    tell("judging the gates")
    result, frame = proven.done.result, data.whole
    rows = frame.rows
    held_out = labelled.held_out if labelled is not None else np.ones(rows, dtype=bool)
    context = Context(
        name=recipe.name,
        version=recipe.version,
        task=result.description.task,
        frame=frame,
        inputs=_inputs(result),
        labels=None if labelled is None else labelled.labels,
        held_out=held_out,
        split=data.held_out is not None,
        predictions=answered,
        resamples=_resamples(gates, frame, held_out),
        measured=_measured(proven, bundle_bytes, repeatable=repeatable),
        metrics=metrics.figures(answered) if answered is not None else {},
        rival=incumbents.ask(
            recipe, gates.incumbent, frame.take(held_out), answered, key=key, tell=tell
        )
        if gates.incumbent is not None and answered is not None
        else None,
        profile=profile,
        definitions=_definitions(gates.skew) if gates.skew is not None else None,
        serving=frames.read(Path(gates.skew.serving))
        if gates.skew is not None and gates.skew.serving
        else None,
    )
    return judge(gates, context, own)


def _inputs(result: Result) -> dict[str, str]:
    """Return the datatype of each column that the model reads."""
    kinds = {name: kind for name, kind, _ in result.inputs}
    matrix = result.description.matrix
    return {name: kinds[matrix or name] for name in result.description.columns}


def _resamples(gates: Gates, frame: Frame, held_out: Array) -> intervals.Resamples:
    groups = None
    if gates.groups:
        column = frame.select([gates.groups], what="the recipe (gates.groups)")
        groups = column.columns[gates.groups][held_out]
        groups = groups.astype(str) if groups.dtype == object else groups
    return intervals.Resamples(int(held_out.sum()), groups, gates.confidence)


def _measured(proven: Proven, bundle_bytes: int, *, repeatable: bool) -> Measured:
    figures = proven.answers.figures
    return Measured(
        figures={
            "latency_us": figures.latency_us,
            "latency_p99_us": figures.latency_p99_us,
            "latency_16_us": figures.latency_16_us,
            "load_ms": figures.load_ms,
            "memory_bytes": figures.memory_bytes,
            "model_bytes": len(proven.done.model),
            "bundle_bytes": bundle_bytes,
        },
        rounds=figures.rounds,
        machine=machine(),
        repeatable=repeatable,
    )


def machine() -> str:
    """Return what kind of machine this is, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        lines = []
    said = {
        what.strip(): value.strip() for what, _, value in (line.partition(":") for line in lines)
    }
    # x86 says "model name", most boards of ARM "Model" or "Hardware".
    name = next((said[what] for what in ("model name", "Model", "Hardware") if said.get(what)), "")
    return f"{platform.machine()}, {name or 'unknown processor'}, {os.cpu_count()} cores"


def _definitions(declared: Skew) -> defined.Definitions | None:
    if not declared.definitions:
        return None
    path = Path(declared.definitions)
    if path.name == "feature_store.yaml":
        path = _registry_of(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the feature definitions {path} cannot be read: {error.strerror}",
            hint="run 'feast apply', or correct gates.skew.definitions",
        ) from error
    named = path.name
    schema = path.suffix == ".toml" or (path.suffix == ".json" and b'"features"' in data[:4096]
                                        and b"featureViews" not in data)  # fmt: skip
    if schema:
        return defined.from_schema(data, named, toml=path.suffix == ".toml")
    return feast.read(data, named, service=declared.service, views=declared.views,
                      project=declared.project)  # fmt: skip


def _registry_of(store: Path) -> Path:
    """Return the registry file that a ``feature_store.yaml`` names.

    Raises:
        UsageError: it cannot be read, or the registry is no local file.
    """
    try:
        lines = store.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{store} cannot be read: {error}") from error
    # Two shapes only: `registry: PATH`, or `registry:` with an indented `path: PATH`.
    found, inside = "", False
    for line in lines:
        name, colon, value = line.partition(":")
        indented = line[:1].isspace()
        value = value.split(" #")[0].strip().strip("'\"")
        if colon and not indented:
            inside = name.strip() == "registry"
            found = found or (value if inside else "")
        elif colon and inside and name.strip() == "path":
            found = value
    if not found or "://" in found:
        raise UsageError(
            f"{store} keeps its registry at {found or 'no path'}, and only a file is read here",
            hint="run 'feast registry-dump > registry.json', and name that file",
        )
    return store.parent / found
