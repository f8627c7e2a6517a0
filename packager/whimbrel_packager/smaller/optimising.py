"""Making a proven network smaller, when its quality still holds.

The float32 model is proven against its source first. The smaller one is another model, and is
judged as one: by what it loses on labelled rows that the model has not seen, or without labels by
how often and how far it answers otherwise. What it loses, and what was allowed, is in the manifest;
a loss beyond that is a refusal. Its parity vectors hold its own answers on this machine, and a
device may be as far from these as they are from float32's.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import onnx

from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle import parity as vectors
from whimbrel_core.bundle.manifest import Optimisation
from whimbrel_core.errors import ParityError, UsageError
from whimbrel_packager.conversion import canonical, child, conversion, proving, runtime
from whimbrel_packager.conversion.parity import VECTOR_ROWS, Tolerance
from whimbrel_packager.conversion.proving import Proved, Proven
from whimbrel_packager.smaller import losses, smaller, smaller_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_packager.baseline import Labelled
    from whimbrel_packager.conversion.conversion import Conversion
    from whimbrel_packager.recipe import Recipe

    Array = np.ndarray[Any, Any]
    Tell = Callable[[str], None]

MODULE = "whimbrel_packager.smaller.smaller_child"
_WORTH = 0.9  # of the size before
_VARIATION = 4.0


class Optimised(NamedTuple):
    """What is packed: as it was proven, or smaller with the record of that."""

    proven: Proven
    record: Optimisation | None = None

    def notes(self) -> tuple[str, ...]:
        """Return what a person should know of it."""
        if self.record is None:
            return ()
        made, size = self.record, len(self.proven.done.model)
        what = made.precision if made.graph == "none" else f"{made.precision}, graph {made.graph}"
        loss = ", ".join(
            f"{name} {value:.3g} (allowed {made.allowed[name]:g})" if name in made.allowed else
            f"{name} {value:.3g}" for name, value in made.loss.items()
        )  # fmt: skip
        sizes = f"{what}: {made.size_bytes:,} → {size:,} bytes"
        notes = [f"{sizes}; lost: {loss}" if loss else sizes]
        if made.precision == "int8-dynamic":
            notes.append("int8-dynamic: an answer depends a little on the rows in its batch")
        return tuple(notes)


def apply(
    recipe: Recipe,
    proven: Proven,
    folder: Path,
    *,
    labelled: Labelled | None,
    positive: int | None,
    key: PublicKey | None,
    tell: Tell,
) -> Optimised:
    """Return a proven model made smaller as the recipe says.

    Args:
        recipe: with what to do, and what may be lost.
        proven: the float32 model, with its answers.
        folder: for the child processes.
        labelled: labels of the reference rows; None when there are none.
        positive: index of the positive class, or None.
        key: that the predecessor is signed with.
        tell: called with the name of each stage that begins.

    Raises:
        UsageError: the model is no network, or something asked for cannot be.
        GateError: it loses more than is allowed.
        ConversionError: it cannot be converted; ParityError: it is not what it was any more.
    """
    wanted = recipe.optimise
    if wanted.precision == "float32" and wanted.graph == "none":
        return Optimised(proven)
    before = proven
    lost: dict[str, float] = {}
    allowed: dict[str, float] = {}
    predecessor = b""
    if wanted.precision == "float32":
        proven = _graph(recipe, proven, folder, tell)
    else:
        require_network(wanted.precision, proven.done)
        if wanted.predecessor:
            predecessor = _predecessor(recipe, key)
        proven = _precision(recipe, proven, folder, predecessor, tell)
        tell("judging what it loses")
        lost = losses.measured(before, proven, labelled, positive)
        allowed = losses.allowed(wanted.max_loss, lost, labelled=labelled is not None)
        _require_small(recipe, before, proven)
        losses.require(recipe, lost, allowed, labelled)
        proven = _with_vectors(recipe, before, proven, folder, tell)
    return Optimised(
        proven,
        Optimisation(
            precision=wanted.precision,
            graph=wanted.graph,
            size_bytes=len(before.done.model),
            loss={name: float(f"{value:.4g}") for name, value in lost.items()},
            allowed=allowed,
            rows=int(labelled.held_out.sum()) if labelled else proven.frame.rows,
            rtol=proven.proved.vectors.rtol,
            atol=proven.proved.vectors.atol,
        ),
    )


def require_network(precision: str, done: Conversion) -> None:
    """Refuse a model without layers of weights.

    Raises:
        UsageError: names what it is instead.
    """
    layers = sum(done.result.operators.get(name, 0) for name in smaller.WEIGHTED)
    if done.result.ensembles or not layers:
        kind = "a tree ensemble" if done.result.ensembles else "no network"
        raise UsageError(
            f"precision {precision!r} is for neural networks, and "
            f"{done.result.description.estimator} is {kind}",
            hint="leave precision out; fewer or shallower trees make an ensemble smaller",
        )


def _graph(recipe: Recipe, proven: Proven, folder: Path, tell: Tell) -> Proven:
    request = smaller_child.Request("float32", recipe.optimise.graph)
    done = _made(recipe, proven, request, folder / "graph", tell=tell)
    answers = proving.run(
        done, proven.frame, folder / "graph", limits=recipe.limits, what=recipe.title, tell=tell
    )
    tell("proving parity")
    return Proven(done, proven.frame, answers, proving.prove(recipe, done, answers))


def _precision(
    recipe: Recipe, proven: Proven, folder: Path, predecessor: bytes, tell: Tell
) -> Proven:
    home = folder / "precision"
    names = tuple(name for name, _, _ in proven.done.result.inputs)
    request = smaller_child.Request(recipe.optimise.precision, recipe.optimise.graph, names)
    done = _made(recipe, proven, request, home, predecessor=predecessor, tell=tell)
    answers = proving.run(
        done, proven.frame, home, limits=recipe.limits, what=recipe.title, tell=tell
    )
    return proven._replace(done=done, answers=answers)


def _made(
    recipe: Recipe,
    proven: Proven,
    request: smaller_child.Request,
    home: Path,
    *,
    predecessor: bytes = b"",
    tell: Tell,
) -> Conversion:
    """Let a child process make the smaller model, and return the conversion with it."""
    home.mkdir()
    (home / smaller_child.MODEL).write_bytes(proven.done.model)
    if predecessor:
        (home / smaller_child.PREDECESSOR).write_bytes(predecessor)
    frame = proven.frame
    most = min(frame.rows, recipe.optimise.calibration_rows)
    chosen = frame.take(np.linspace(0, frame.rows - 1, most).astype(np.int64))
    fed = proving.feeds(proven.done, chosen)
    plain = {
        f"input_{i}": a.astype(np.str_) if a.dtype == object else a
        for i, a in enumerate(fed.values())
    }
    np.savez(home / smaller_child.CALIBRATION, **plain)  # type: ignore[arg-type]
    running = child.start(MODULE, home, request, recipe.limits)
    try:
        running.wait(recipe.title, tell)
    finally:
        running.kill()
    model = (home / smaller_child.SMALLER).read_bytes()
    proto = onnx.load_from_string(model)
    result = msgspec.structs.replace(
        proven.done.result,
        opsets={entry.domain: entry.version for entry in proto.opset_import},
        operators=canonical.operators(proto),
        ir_version=proto.ir_version,
        inputs=canonical.signature(proto.graph.input, what="input"),
        outputs=canonical.signature(proto.graph.output, what="output"),
    )
    return conversion.Conversion(model, result, proven.done.corpus, proven.done.expected)


def _with_vectors(
    recipe: Recipe, before: Proven, after: Proven, folder: Path, tell: Tell
) -> Proven:
    """Return a smaller model with vectors of its own answers, as a device will ask for them.

    Raises:
        ParityError: it makes numbers of what is missing.
    """
    done, corpus = after.done, after.done.corpus
    _require_missing(recipe, before, after)
    usable = ~before.proved.proof.tied & np.isin(corpus.case, ("real", "nan"))
    rows = np.flatnonzero(usable)
    most = min(VECTOR_ROWS, before.proved.vectors.rows)
    rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
    for _ in range(2):
        got, alone = _asked(recipe, done, rows, folder, tell)
        limit = _tolerance(before, done, rows, got, alone)
        # A label whose class is best by less than the tolerance may fall either way elsewhere.
        clear = _clear(done, got, limit)
        if clear.all():
            break
        rows = rows[clear]
    fed = {name: array[rows] for name, array in proving.feeds(done, corpus.frame).items()}
    made = vectors.ParityVectors(fed, got, limit.rtol, limit.atol)
    return after._replace(proved=Proved(before.proved.proof, before.proved.limit, made))


def _asked(
    recipe: Recipe, done: Conversion, rows: Array, folder: Path, tell: Tell
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the answers to some corpus rows, in one batch as a device asks, and of the first."""
    home = folder / f"vectors-{len(rows)}"
    home.mkdir()
    fed = {name: array[rows] for name, array in proving.feeds(done, done.corpus.frame).items()}
    batches = {"all": fed, "first": {name: array[:1] for name, array in fed.items()}}
    outputs = tuple(name for name, _, _ in done.result.outputs)
    running = runtime.start(done.model, batches, outputs, home, recipe.limits)
    try:
        answers = runtime.collect(running, home, recipe.title, tell)
    finally:
        running.kill()
    return answers.outputs["all"], answers.outputs["first"]


def _tolerance(
    before: Proven, done: Conversion, rows: Array, got: Mapping[str, Array],
    alone: Mapping[str, Array],
) -> Tolerance:  # fmt: skip
    """Return how far a device may be off: as far as float32 is, and as batches differ here."""
    atol = before.proved.limit.atol
    for name, _, _ in done.result.outputs:
        if got[name].dtype.kind != "f":
            continue
        exact = before.answers.outputs["corpus"][name][rows]
        error = vectors.errors(exact, got[name])
        between = vectors.errors(got[name][:1], alone[name])
        off = float(error[np.isfinite(error)].max(initial=0.0))
        varies = float(between[np.isfinite(between)].max(initial=0.0))
        atol = max(atol, off, _VARIATION * varies)
    return Tolerance(before.proved.limit.rtol, float(f"{atol * 1.01:.2e}"))


def _clear(done: Conversion, got: Mapping[str, Array], limit: Tolerance) -> Array:
    roles = done.result.description.roles
    clear = np.ones(len(next(iter(got.values()))), dtype=bool)
    if "label" not in roles.values():
        return clear
    for name, role in roles.items():
        if role == "probabilities" and got[name].ndim > 1 and got[name].shape[1] > 1:
            best = np.sort(got[name].astype(np.float64), axis=1)
            clear &= ~(best[:, -1] - best[:, -2] <= 2 * (limit.atol + limit.rtol))
            clear &= ~np.isnan(best[:, -1])
    return clear if clear.any() else np.ones_like(clear)


def _require_missing(recipe: Recipe, before: Proven, after: Proven) -> None:
    old, new = before.answers.outputs["corpus"], after.answers.outputs["corpus"]
    for name, values in old.items():
        if values.dtype.kind == "f" and np.isfinite(new[name][np.isnan(values)]).any():
            raise ParityError(
                f"{recipe.title} as {recipe.optimise.precision}: output {name!r} is a number where "
                "the float32 model answers NaN. Nothing was packed",
                hint='take precision = "float32"',
            )


def _require_small(recipe: Recipe, before: Proven, after: Proven) -> None:
    old, new = len(before.done.model), len(after.done.model)
    if new > _WORTH * old:
        raise UsageError(
            f"{recipe.title} as {recipe.optimise.precision} has {new:,} bytes, as float32 {old:,}: "
            "most of it is not in layers that this precision reaches. Nothing was packed",
            hint="leave it out for a small network; float16 reaches recurrent layers, int8 does not",
        )


def _predecessor(recipe: Recipe, key: PublicKey | None) -> bytes:
    """Return the model of the predecessor's bundle.

    Raises:
        UsageError: there is none, or it is no int8 model of the same name.
        TrustError: it is not signed with the key that signs this one.
    """
    path = Path(recipe.optimise.predecessor)
    if key is None:
        raise UsageError(
            f"{path} cannot be verified without a key", hint="give the key that it was signed with"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the predecessor {path} cannot be read: {error}") from error
    bundle = bundles.open_bundle(io.BytesIO(content), [key], what=str(path))
    model = bundle.read(bundle.manifest.model.file)
    if bundle.manifest.name != recipe.name:
        raise UsageError(f"{path} holds {bundle.manifest.title}, no predecessor of {recipe.title}")
    if recipe.optimise.precision != "int8-static" or not smaller.scales_of(
        onnx.load_from_string(model)
    ):
        raise UsageError(
            f"{path} has no int8 scales that {recipe.title} could take over",
            hint='both need precision = "int8-static"; else leave optimise.predecessor out',
        )
    return model
