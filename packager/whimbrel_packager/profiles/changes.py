"""When the columns of a table changed, its rows being in the order of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from whimbrel_core.errors import InputError
from whimbrel_core.profile.watching import series
from whimbrel_packager.profiles.making import select
from whimbrel_packager.profiles.typed import typed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from whimbrel_packager.profiles.source import Source

    Floats = NDArray[np.float64]

_NEWS = 10_000  # rows after which it is said how far it is


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One change.

    Args:
        row: the first one after it, from 1.
        label: of that row; "" without a column of labels.
        told_row: at which there was enough evidence.
        column: that it was found in; of several together the one with the most evidence.
        kind: "level", or "spread" when only the noise changed.
        direction: +1 up or wider, −1 down or narrower.
        before: mean before it.
        after: mean since, up to ``told_row``.
        sd_before: standard deviation before it.
        sd_after: of those since.
        log_e: evidence.
        threshold: where an alarm is.
    """

    row: int
    label: str
    told_row: int
    column: str
    kind: series.Kind
    direction: int
    before: float
    after: float
    sd_before: float
    sd_after: float
    log_e: float
    threshold: float


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one column, or in several together; ``rows``: with a number."""

    columns: tuple[str, ...]
    rows: int
    changes: tuple[Found, ...]


def find(
    source: Source,
    columns: Sequence[str],
    settings: series.SeriesSettings,
    *,
    label: str = "",
    together: bool = False,
    stage: Callable[[str], None],
) -> tuple[Changes, ...]:
    """Return the changes of columns of numbers, each by itself, or all together.

    A missing value changes nothing. Of several columns together, the figures are those of the one
    with the most evidence.

    Raises:
        UsageError: there is no such column.
        InputError: a column that was named has no numbers, or there is none at all.
    """
    others = [name for name in source.columns if name != label]
    wanted = select(others, columns, source.name)
    if label:
        select(source.columns, (label,), source.name)
    pieces: dict[str, list[Floats]] = {name: [] for name in wanted}
    labels: list[str] = []
    read = (*wanted, label) if label else wanted
    words = frozenset((label,) if label else ())
    for piece in source.pieces(read, words, lambda far: stage(f"reading: {far}")):
        labels += [str(value) for value in piece[label]] if label else []
        for name in list(pieces):
            column = typed(piece[name])
            if column.type in {"empty", "numbers"}:
                pieces[name].append(column.data.astype(np.float64))
            elif columns:
                raise InputError(
                    f"{source.name}: {name} holds {column.detail or column.type}, no numbers",
                    hint="name columns of numbers with --columns",
                    code="input.data",
                )
            else:
                del pieces[name]
    if not pieces:
        raise InputError(f"{source.name} has no column of numbers", code="input.data")
    values = {name: np.concatenate([np.empty(0), *parts]) for name, parts in pieces.items()}
    groups = [tuple(values)] if together else [(name,) for name in values]
    return tuple(
        _watched(group, np.stack([values[name] for name in group], axis=1), settings, labels, stage)
        for group in groups
    )


def _watched(
    columns: tuple[str, ...],
    rows: Floats,
    settings: series.SeriesSettings,
    labels: Sequence[str],
    stage: Callable[[str], None],
) -> Changes:
    states: tuple[series.SeriesState, ...] = (series.start(),) * len(columns)
    found = []
    for at, row in enumerate(rows.tolist()):
        if at % _NEWS == 0:
            stage(f"watching {', '.join(columns)}: {at:,} of {len(rows):,} rows")
        states, change = series.update_together(states, at, row, settings)
        if change is not None:
            found.append(_found(change, columns[change.series], labels))
    seen = int(np.isfinite(rows).any(axis=1).sum())
    return Changes(columns=columns, rows=seen, changes=tuple(found))


def _found(change: series.Change, column: str, labels: Sequence[str]) -> Found:
    return Found(
        row=change.began_at + 1,
        label=labels[change.began_at] if labels else "",
        told_row=change.at + 1,
        column=column,
        kind=change.kind,
        direction=change.direction,
        before=change.before,
        after=change.after,
        sd_before=change.sd_before,
        sd_after=change.sd_after,
        log_e=change.log_e,
        threshold=change.threshold,
    )
