"""Changes of the schema: what callers send, what they get, and what it means.

Callers name inputs, state datatypes and shapes, and index probabilities by class. Whatever of
these is no longer true breaks them: loudly (an input is gone), or silently (a unit is another, two
columns of a matrix changed places), which is worse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.feature import MAX_VOCABULARY
from whimbrel_packager.comparison.change import Change, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from whimbrel_core.bundle.manifest import Manifest, Output, Tensor
    from whimbrel_core.profile.feature import Feature
    from whimbrel_core.profile.layout import Layout
    from whimbrel_packager.contents import Contents


def changes(old: Contents, new: Contents) -> Iterator[Change]:
    """Yield what differs."""
    a, b = old.manifest, new.manifest
    yield from _task(a, b)
    yield from _tensors("input", a.inputs, b.inputs)
    yield from _tensors("output", a.outputs, b.outputs)
    yield from _classes(a, b)
    yield from _features(old.baseline.layout, new.baseline.layout)


def _task(a: Manifest, b: Manifest) -> Iterator[Change]:
    if a.purpose != b.purpose:
        yield Change("breaking", "schema", "task", f"the task is {b.purpose}, was {a.purpose}",
                     a.purpose, b.purpose)  # fmt: skip


def _tensors(
    kind: str, old: Sequence[Tensor | Output], new: Sequence[Tensor | Output]
) -> Iterator[Change]:
    before, after = {t.name: t for t in old}, {t.name: t for t in new}
    for name, was in before.items():
        what = f"{kind} {name}"
        now = after.get(name)
        if now is None:
            yield Change("breaking", "schema", what, f"{kind} {name!r} is gone", described(was))
            continue
        if described(was) != described(now):
            yield Change(
                "breaking", "schema", what,
                f"{kind} {name!r} is {described(now)}, was {described(was)}",
                described(was), described(now),
            )  # fmt: skip
        roles = [getattr(tensor, "role", "") for tensor in (was, now)]
        if roles[0] != roles[1]:
            yield Change("breaking", "schema", what,
                         f"output {name!r} means {roles[1]}, meant {roles[0]}", *roles)  # fmt: skip
    for name, now in after.items():
        if name not in before:
            # An input that nobody sends is refused; an output that nobody reads harms nobody.
            level, so = ("breaking", "has to be sent") if kind == "input" else ("info", "is there")
            yield Change(
                "breaking" if level == "breaking" else "info", "schema", f"{kind} {name}",
                f"{kind} {name!r} ({described(now)}) {so} now", "", described(now),
            )  # fmt: skip


def described(tensor: Tensor | Output) -> str:
    """Return datatype and shape.

    >>> from whimbrel_core.bundle.manifest import Tensor
    >>> described(Tensor("x", "FP32", (-1, 20)))
    'FP32[batch, 20]'
    """
    shape = ", ".join("batch" if n < 0 else str(n) for n in tensor.shape)
    return f"{tensor.datatype}[{shape}]"


def _classes(a: Manifest, b: Manifest) -> Iterator[Change]:
    if a.classes != b.classes:
        old, new = named(a.classes), named(b.classes)
        gone = [name for name in a.classes if name not in b.classes]
        added = [name for name in b.classes if name not in a.classes]
        parts = [f"{named(gone)} gone" if gone else "", f"{named(added)} new" if added else ""]
        told = ", ".join(part for part in parts if part) or f"in another order: {new}, was {old}"
        yield Change("breaking", "schema", "classes", f"classes: {told}", old, new)
    was, now = _positive(a), _positive(b)
    if was != now:
        yield Change(
            "warn", "schema", "positive class",
            f"the score is about class {now or 'predicted'}, was about {was or 'predicted'}",
            was, now,
        )  # fmt: skip


def _positive(manifest: Manifest) -> str:
    return "" if manifest.positive is None else manifest.classes[manifest.positive]


def _features(old: Layout, new: Layout) -> Iterator[Change]:
    yield from _columns(old, new)
    after = {(f.role, f.name): f for f in new.features}
    for was in old.features:
        now = after.get((was.role, was.name))
        if now is None or was.role == "output":
            continue
        what = f"input {was.name}"
        if was.unit != now.unit:
            yield _unit(was, now)
        if was.kind != now.kind and "categorical" not in {was.kind, now.kind}:
            yield Change(
                "notice", "schema", what,
                f"{was.name!r} is profiled as {now.kind}, was {was.kind}", was.kind, now.kind,
            )  # fmt: skip
        yield from _vocabulary(was, now, what)


def _columns(old: Layout, new: Layout) -> Iterator[Change]:
    """Yield columns of a matrix that hold something else than before: nothing complains there."""
    before, after = ({(f.tensor, f.column): f.name for f in layout.features if f.role == "input"}
                     for layout in (old, new))  # fmt: skip
    wide = {tensor for tensor, column in before if column > 0}
    moved = [at for at in before if at[0] in wide and at in after and before[at] != after[at]]
    for tensor in dict.fromkeys(tensor for tensor, _ in moved):
        columns = [column for name, column in moved if name == tensor]
        told = named([f"{c} is {after[tensor, c]}, was {before[tensor, c]}" for c in columns])
        yield Change("breaking", "schema", f"input {tensor}",
                     f"columns of input {tensor!r} hold other features: {told}")  # fmt: skip


def _unit(was: Feature, now: Feature) -> Change:
    old, new = was.unit or "", now.unit or ""
    if old and new:
        text = f"{was.name!r} is in {new}, was in {old}: the same numbers mean something else"
        return Change("breaking", "schema", f"input {was.name}", text, old, new)
    text = (
        f"{was.name!r} says its unit now, {new}"
        if new
        else f"{was.name!r} does not say its unit any more, which was {old}"
    )
    return Change("info" if new else "notice", "schema", f"input {was.name}", text, old, new)


def _vocabulary(was: Feature, now: Feature, what: str) -> Iterator[Change]:
    if was.kind != "categorical" or now.kind != "categorical":
        return
    added = [word for word in now.vocabulary if word not in set(was.vocabulary)]
    gone = [word for word in was.vocabulary if word not in set(now.vocabulary)]
    if added:
        text = f"{was.name!r} has {_words(added, 'new ')} in the baseline: {named(added)}"
        yield Change("info", "schema", what, text, "", named(added))
    if gone:
        # Of more words than a baseline keeps, the rarest come and go.
        full = len(now.vocabulary) == MAX_VOCABULARY
        text = f"{was.name!r} has lost {_words(gone)} from the baseline: {named(gone)}"
        yield Change("info" if full else "notice", "schema", what, text, named(gone), "")


def _words(words: Sequence[str], how: str = "") -> str:
    return f"{len(words)} {how}word{'s' * (len(words) > 1)}"
