"""From a model file to a conversion that is proven: convert, run, compare; and again, rewritten.

The plain conversion comes first. Where it fails or does not answer as its source, the rewrites that
the source knows are tried in its order, each converted and proven like the first. What none of
them puts right is refused with the reason of the plain one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from whimbrel_core.errors import ConversionError, ParityError
from whimbrel_packager import feeds as feeding
from whimbrel_packager.conversion import conversion, hazards, parity, runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from whimbrel_core.bundle.parity import ParityVectors
    from whimbrel_core.errors import RefusedError
    from whimbrel_packager.conversion.child import Child, Limits
    from whimbrel_packager.conversion.conversion import Conversion
    from whimbrel_packager.frame import Frame
    from whimbrel_packager.recipe import Recipe
    from whimbrel_packager.sources import Options

    Array = np.ndarray[Any, Any]
    Tell = Callable[[str], None]

OTHER_BATCHES = (1, 7)


class Proved(NamedTuple):
    """A proof with the tolerance that it held to, and the vectors that a device proves again."""

    proof: parity.Proof
    limit: parity.Tolerance
    vectors: ParityVectors


class Proven(NamedTuple):
    """A conversion that holds.

    Attributes:
        done: the conversion, with its corpus and the source's answers.
        frame: the columns that the model reads, all reference rows.
        answers: the runtime's, to the corpus and to the reference rows.
        proved: the proof.
    """

    done: Conversion
    frame: Frame
    answers: runtime.Answers
    proved: Proved


def first_proven(
    recipe: Recipe,
    path: Path,
    data: Frame,
    folder: Path,
    *,
    options: Options,
    tell: Tell,
    check: Callable[[Conversion], object],
) -> Proven:
    """Return the first conversion of a model file that answers as its source does.

    Args:
        recipe: its tolerances, limits and title.
        path: the model file.
        data: the reference data without labels.
        folder: where the child processes leave their files.
        options: to open the model file with.
        tell: called with the name of each stage that begins.
        check: called with a conversion before it is run; raises when the data does not fit it.

    Raises:
        ConversionError: nothing converts, or runs; the plain conversion's reason.
        ParityError: nothing holds; the plain conversion's worst case.
        UsageError, InputError: the model or the data cannot be read, or do not fit each other.
    """
    what, attempt = recipe.title, 0
    failed: list[tuple[str, RefusedError]] = []
    while True:
        home = folder / f"attempt-{attempt}"
        home.mkdir()
        try:
            request = conversion.Request(str(path.resolve()), options, attempt)
            with _running(conversion.start(request, data, home, recipe.limits)) as running:
                done = conversion.collect(running, home, what, tell)
        except (ConversionError, ParityError) as error:
            raise _summed(failed, error) from error
        check(done)
        frame = data.select(done.result.description.columns, what="the model")
        try:
            answers = run(done, frame, home, limits=recipe.limits, what=what, tell=tell)
            tell("proving parity")
            return Proven(done, frame, answers, prove(recipe, done, answers))
        except (ConversionError, ParityError) as error:
            named = ", ".join(done.result.attempts[done.result.attempt])
            failed.append((named, _of_converter(error, done)))
            attempt = done.result.attempt + 1
            if attempt == len(done.result.attempts):
                raise _summed(failed, None) from error
        tell(f"trying once more: {', '.join(done.result.attempts[attempt])}")


def prove(recipe: Recipe, done: Conversion, answers: runtime.Answers) -> Proved:
    """Compare the runtime's answers with the source's, in every batch; `ParityError` if not."""
    what = f"{recipe.title} ({done.result.description.estimator})"
    limit = parity.tolerance(recipe.parity.rtol, recipe.parity.atol, done)
    corpus = answers.outputs["corpus"]
    proof = parity.prove(done, corpus, limit, what)
    for rows in OTHER_BATCHES:
        own = answers.outputs[f"batch{rows}"]
        whole = {name: array[_of_batch(rows, len(array))] for name, array in corpus.items()}
        if all(len(array) == rows for array in own.values()):
            parity.same_in_any_batch(whole, own, limit, what, rows)
    fed = feeds(done, done.corpus.frame)
    return Proved(proof, limit, parity.choose(done, proof, fed, corpus, limit))


def run(
    done: Conversion, frame: Frame, folder: Path, *, limits: Limits, what: str, tell: Tell
) -> runtime.Answers:
    """Return the runtime's answers to the corpus, to parts of it, and to all reference rows."""
    home = folder / "runtime"
    home.mkdir()
    corpus = feeds(done, done.corpus.frame)
    batches: dict[str, Mapping[str, Array]] = {
        "corpus": corpus,
        "reference": feeds(done, frame),
        **{
            f"batch{rows}": {
                name: array[_of_batch(rows, len(array))] for name, array in corpus.items()
            }
            for rows in OTHER_BATCHES
        },
    }
    outputs = tuple(name for name, _, _ in done.result.outputs)
    dangerous = hazards.rows(corpus)
    started = runtime.start(done.model, batches, outputs, home, limits, dangerous=dangerous)
    with _running(started) as running:
        return runtime.collect(running, home, what, tell)


def _of_batch(rows: int, total: int) -> slice:
    """Return which corpus rows make up another batch: not the first, which may lead the others."""
    first = max(0, min(rows, total - rows))
    return slice(first, first + rows)


def feeds(done: Conversion, frame: Frame) -> Mapping[str, Array]:
    """Return a frame as the model's inputs, in the types and ranks it declares."""
    return feeding.of(frame, done.result.inputs, done.result.description.matrix)


@contextmanager
def _running(process: Child) -> Iterator[Child]:
    try:
        yield process
    finally:
        process.kill()


def _of_converter(error: RefusedError, done: Conversion) -> RefusedError:
    """Return a refusal of the runtime with the converter's name and a hint that helps there."""
    described = done.result.description
    if error.code != "conversion.runtime" or described.converter == "none":
        return error
    return ConversionError(
        f"{described.estimator}: what {described.converter} made of it does not run: {error.message}",
        hint=described.remedy or "leave out the step that cannot be run, or replace it",
        code=error.code,
    )


def _summed(failed: list[tuple[str, RefusedError]], last: RefusedError | None) -> RefusedError:
    """Return the first failure, with what was tried after it."""
    if not failed:
        raise last or AssertionError
    _, first = failed[0]
    tried = [name for name, _ in failed[1:]]
    if last is not None:
        tried.append("what else is known, which does not convert")
    if not tried:
        return first
    message = f"{first.message} (tried in vain: {'; '.join(tried)})"
    return type(first)(message, hint=first.hint, code=first.code)
