"""Make the profile of a table: learn its columns, cut their cells, count every row.

A table is read twice: once for the types of its columns and a sample that cells are cut by, and once
to count all of its rows in them. With cells of something else (a baseline, another profile) it is
read once. Memory does not grow with its length.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.drawing.written import DAYS
from whimbrel_core.errors import InputError, UsageError
from whimbrel_core.profile.building.columns import ColumnSpec
from whimbrel_core.profile.building.dataset import MAX_NAMES, DatasetProfile
from whimbrel_core.profile.building.features import features
from whimbrel_core.profile.building.sample import Sample
from whimbrel_core.profile.building.tally import Tally
from whimbrel_core.profile.descriptors import Text, describer
from whimbrel_core.profile.layout import MAX_FEATURES, Layout
from whimbrel_packager.profiles.describing import as_in
from whimbrel_packager.profiles.source import Typed
from whimbrel_packager.profiles.typed import Column, are_times, as_numbers, as_times, as_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from whimbrel_core.profile.feature import Feature
    from whimbrel_packager.profiles.source import Source

    Array = np.ndarray[Any, Any]

_SAMPLE_VALUES, _MOST_SAMPLED, _FEWEST_SAMPLED = 12_000_000, 100_000, 20_000
_TEXT_SHARE = 0.5  # of rows in other words than the vocabulary's: an id or free text
_NOTED = 12  # columns named in a note
_SHOWN = 60  # characters of a value in a message
_MANY_WORDS = 30


@dataclass
class _Seen:
    """What is known of a column."""

    types: set[str] = field(default_factory=set)
    detail: str = ""
    odd: int = 0
    present: int = 0
    times: bool = False
    example: str = ""


def silent(_stage: str) -> None:
    """Tell nobody how far it is."""


def make(
    source: Source,
    *,
    like: DatasetProfile | None = None,
    columns: Sequence[str] = (),
    stage: Callable[[str], None] = silent,
) -> DatasetProfile:
    """Return the profile of a table.

    Args:
        source: the table.
        like: whose cells to count in; None: cells of the table's own quantiles.
        columns: names or patterns (``temp_*``) of the columns to profile; none: all.
        stage: is told what is done and how far.

    Raises:
        UsageError: no such column, too many of them, or none in common with ``like``.
        InputError: the table cannot be read, or has no rows.
    """
    if like is not None:
        described = as_in(source, like.baseline.layout)
        names = select(described.columns, columns, source.name)
        return _counted_like(described, names, like, stage)
    chosen = select(source.columns, columns, source.name)
    if len(chosen) > MAX_FEATURES:
        raise UsageError(
            f"{source.name} has {len(chosen):,} columns, and a profile holds {MAX_FEATURES}",
            hint="choose with --columns, by name or pattern: --columns 'temp_*' --columns speed",
            code="usage.columns",
        )
    typed = Typed(source, chosen)
    sample, seen, words = _learned(typed, stage)
    left_out = [name for name in chosen if "other" in seen[name].types]
    kept = [name for name in chosen if name not in left_out]
    if not kept:
        raise InputError(f"{source.name} has no column of numbers or words", code="input.data")
    notes = [
        f"column {name!r} holds {seen[name].detail} values and was left out" for name in left_out
    ]
    notes += [
        f"column {name!r} mixes numbers with words and is profiled as words: {seen[name].example}"
        for name in kept
        if name in words
    ]
    found = sample.columns()
    stage("cutting cells")
    for name in kept:
        if seen[name].types <= {"words", "empty"} and name not in words and are_times(found[name]):
            seen[name].times, seen[name].detail = True, DAYS
            found[name] = as_times(Column("words", found[name]))[0]
    specs = [
        ColumnSpec(name, "input", name, 0, found[name], seen[name].detail or None)
        for name in kept
    ]  # fmt: skip
    layout = Layout(task="regression", features=features(specs))
    tally = Tally(layout)
    for rows, piece in typed.read(words, lambda far: stage(f"counting: {far}")):
        tally.add({name: _as(piece[name], name in words, seen[name]) for name in kept}, rows)
    baseline = tally.baseline()
    for feature, counts in zip(layout.features, baseline.window.features, strict=True):
        if (
            counts.finite
            and feature.kind == "categorical"
            and len(feature.vocabulary) > _MANY_WORDS
        ):
            other = counts.cells[-1] / counts.finite
            if other > _TEXT_SHARE:
                notes.append(
                    f"column {feature.name!r} looks like an id or free text: {other:.0%} of its "
                    "words are rarer than those that are counted apart"
                )
    return DatasetProfile(name=source.name, baseline=baseline, notes=tuple(notes))


def select(names: Sequence[str], wanted: Sequence[str], table: str) -> tuple[str, ...]:
    """Return the names that any of the patterns means, in their order; all without patterns.

    Raises:
        UsageError: a pattern means none.
    """
    if not wanted:
        return tuple(names)
    for pattern in wanted:
        if not any(matches(name, (pattern,)) for name in names):
            near = difflib.get_close_matches(pattern, names, 3, 0.5)
            raise UsageError(
                f"{table} has no column {pattern!r}",
                hint=f"did you mean {', '.join(near)}?"
                if near
                else f"its columns are {', '.join(names[:20])}{' …' if len(names) > 20 else ''}",  # noqa: PLR2004 - enough to read
                code="usage.columns",
            )
    return tuple(name for name in names if matches(name, wanted))


def matches(name: str, wanted: Iterable[str]) -> bool:
    """Return whether a name is, or matches, one of some patterns."""
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in wanted)


def _learned(
    typed: Typed, stage: Callable[[str], None]
) -> tuple[Sample, dict[str, _Seen], frozenset[str]]:
    """Return a sample of a table, what its columns are, and which of them mix words with numbers."""
    words: frozenset[str] = frozenset()
    size = _SAMPLE_VALUES // max(len(typed.columns), 1)
    while True:
        sample = Sample(min(max(size, _FEWEST_SAMPLED), _MOST_SAMPLED))
        seen = {name: _Seen() for name in typed.columns}
        mixed: set[str] = set()
        for _, piece in typed.read(words, lambda far: stage(f"looking at columns: {far}")):
            for name, (column, _) in piece.items():
                one = seen[name]
                one.types.add(column.type)
                one.detail = one.detail or column.detail
                if {"numbers", "words"} <= one.types and name not in words:
                    mixed.add(name)
            if mixed:
                break  # read again, its numbers as they are written
            sample.add({name: _as(pair, name in words, seen[name]) for name, pair in piece.items()})
        if not mixed:
            if not sample.rows:
                raise InputError(f"{typed.source.name} has no rows", code="input.data")
            for name in words:
                seen[name].example = _examples(sample.columns()[name])
            return sample, seen, words
        words |= mixed


def _examples(values: Array) -> str:
    """Return one word and one number of a mixed column."""
    shown: dict[bool, str] = {}
    for value in values.tolist():
        if isinstance(value, str):
            shown.setdefault(_is_number(value), repr(value[:_SHOWN]))
    return " and ".join(shown[key] for key in sorted(shown))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as(pair: tuple[Column, Any], words: bool, seen: _Seen) -> Array:  # noqa: FBT001 - a flag of the column's
    """Return a piece of a column as what all of the column is."""
    column, raw = pair
    if seen.times:
        return as_times(column)[0]
    if words or ("words" in seen.types and column.type != "words"):
        return as_words(column, raw)
    return column.data


def _counted_like(
    source: Source, chosen: Sequence[str], like: DatasetProfile, stage: Callable[[str], None]
) -> DatasetProfile:
    """Count a table in the cells of another profile."""
    layout = like.baseline.layout
    known = {feature.name: feature for feature in layout.features}
    shared = [name for name in chosen if name in known]
    # Texts are profiled by their lengths and characters; a column of them is described as on a device.
    texts = {
        one.tensor: (describer(one), [f for f in layout.features if f.tensor == one.name])
        for one in layout.descriptors
        if isinstance(one, Text) and one.tensor in chosen
    }
    if not (shared or texts):
        raise UsageError(
            f"{source.name} has none of the {len(known)} columns of {like.name}",
            hint=f"{like.name} has {_listed(known)}; {source.name} has {_listed(chosen)}",
            code="usage.columns",
        )
    words = frozenset(name for name in shared if known[name].kind == "categorical") | set(texts)
    seen = {name: _Seen() for name in shared}
    tally = Tally(layout)
    typed = Typed(source, [*shared, *(name for name in texts if name not in shared)], again=False)
    for rows, piece in typed.read(words, lambda far: stage(f"counting {source.name}: {far}")):
        columns = {name: _fitted(piece[name], known[name], seen[name]) for name in shared}
        for name, (describe, features_) in texts.items():
            made = describe(as_words(*piece[name]))
            columns |= {feature.name: made[:, feature.column] for feature in features_}
        tally.add(columns, rows)
    if not tally.rows:
        raise InputError(f"{source.name} has no rows", code="input.data")
    counted = {*shared, *(one.name for _, made_of in texts.values() for one in made_of)}
    unlike = {name: _unlike(one) for name, one in seen.items() if _unlike(one)}
    notes = [
        f"column {name!r}: {one.odd:,} of {one.present:,} values are no numbers ({one.example}) and "
        "count as missing"
        for name, one in seen.items()
        if one.odd and name not in unlike
    ]
    return DatasetProfile(
        name=source.name,
        baseline=tally.baseline(),
        like=like.name,
        absent=tuple(name for name in known if name not in counted),
        unlike=unlike,
        new=tuple(n for n in chosen if n not in known and n not in texts)[: MAX_NAMES // 2],
        notes=tuple(notes),
    )


def _fitted(pair: tuple[Column, Any], feature: Feature, seen: _Seen) -> Array:
    """Return a piece of a column as the cells want it."""
    column, raw = pair
    seen.types.add(column.type)
    seen.detail = seen.detail or column.detail
    if feature.kind == "categorical":
        return as_words(column, raw)
    numbers, odd = as_times(column) if feature.unit == DAYS else as_numbers(column)
    if column.type in {"words", "other"}:
        present = [value for value in column.data.tolist() if value is not None]
        seen.present += len(present) or len(numbers)
        if odd and not seen.example:
            wrong = next((v for v in present if not _is_number(v)), present[0])
            seen.example = repr(wrong[:_SHOWN])
    else:
        seen.present += int(np.isfinite(numbers).sum())
    seen.odd += odd
    return numbers


def _unlike(seen: _Seen) -> str:
    """Return what a column holds that its cells are not for; "" when it fits."""
    if "other" in seen.types:
        return f"{seen.detail} values where numbers or words were"
    if seen.odd * 2 > seen.present:
        return f"words ({seen.example}) where numbers were"
    return ""


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - _NOTED} more" if len(listed) > _NOTED else ""
    return ", ".join(listed[:_NOTED]) + rest
