r"""Profiles as InfluxDB line protocol: ``measurement,tags fields timestamp``, a line per feature.

Two measurements: ``whimbrel_feature`` (counts, moments, quantiles) and, where they are wanted,
``whimbrel_cell`` (rows per cell). By the specification of the protocol:

- in measurements ``,`` and space are escaped by a backslash, in tags and names of fields ``=``, too;
- a backslash is no escape of itself there, and one before a separator or at the end could not be
  read back, so that ``/`` stands for it in tags;
- tags hold no line breaks, and none are empty: a break becomes a space, an empty tag is left out;
- in texts of fields ``"`` and ``\`` are escaped;
- whole numbers end in ``i`` and fit 64 bits; NaN and infinities do not exist and are left out; a
  line without any field is left out;
- times are nanoseconds within 64 bits; without one, the database takes its own.

>>> line("whimbrel_feature", {"feature": "wind speed, m=s\\"}, {"rows": 12, "mean": 0.5}, 7)
'whimbrel_feature,feature=wind\\ speed\\,\\ m\\=s/ rows=12i,mean=0.5 7'
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from whimbrel_core.errors import UsageError
from whimbrel_core.profile.exports import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_core.profile.building.dataset import DatasetProfile
    from whimbrel_core.profile.exports.table import Value

FEATURE, CELL = "whimbrel_feature", "whimbrel_cell"
MAX_TEXT_BYTES = 65_535  # of a tag or a text field
_MAX_INTEGER = (1 << 63) - 1
# The database keeps the smallest and the two largest instants for itself.
_TIMES_NS = (-9_223_372_036_854_775_806, 9_223_372_036_854_775_806)
_TAGS = ("feature", "role", "kind", "unit")
_CELL_TAGS = ("feature", "kind", "cell", "name")
_CONTROL = dict.fromkeys([*range(32), 127, 0x85, 0x2028, 0x2029], " ")


def lines(
    profile: DatasetProfile,
    tags: Mapping[str, str],
    *,
    at_ns: int | None = None,
    cells: bool = False,
) -> Iterator[str]:
    """Yield the lines of a profile.

    Args:
        profile: the counts.
        tags: of every line, for example the model and the device; names may not begin with ``_``.
        at_ns: ns since 1970 UTC; None: the end of the counts' period, or none for a data set.
        cells: whether to tell the rows of every cell, too.

    Raises:
        UsageError: a tag's name cannot be one, or the time is beyond 64 bits.
    """
    end_ms = profile.baseline.window.end_ms
    at_ns = at_ns if at_ns is not None else end_ms * 1_000_000 if end_ms else None
    for one in table.lines(table.summary(profile)):
        yield from _line(FEATURE, tags, one, _TAGS, at_ns)
    if cells:
        for one in table.lines(table.cells(profile)):
            yield from _line(CELL, tags, one, _CELL_TAGS, at_ns)


def line(
    measurement: str,
    tags: Mapping[str, str],
    fields: Mapping[str, Value],
    at_ns: int | None = None,
) -> str:
    """Return one line, or "" when no field has a value. Raises `UsageError`, as `lines`."""
    shown = [
        f"{_escaped(name)}={written}"
        for name, value in fields.items()
        if (written := _field(value)) is not None
    ]
    if not shown:
        return ""
    for name in [*tags, *fields]:
        if not name or name.startswith("_") or name == "time":
            raise UsageError(
                f"{name!r} cannot be the name of a tag or field of InfluxDB",
                hint="names begin with no '_', and 'time' is taken",
            )
    named = "".join(
        f",{_escaped(name)}={text}" for name, value in sorted(tags.items()) if (text := _tag(value))
    )
    head = measurement.replace(",", "\\,").replace(" ", "\\ ")
    if at_ns is None:
        return f"{head}{named} {','.join(shown)}"
    if not _TIMES_NS[0] <= at_ns <= _TIMES_NS[1]:
        raise UsageError(f"{at_ns} ns since 1970 is beyond the times that InfluxDB has")
    return f"{head}{named} {','.join(shown)} {at_ns}"


def _line(
    measurement: str,
    tags: Mapping[str, str],
    one: Mapping[str, Value],
    names: tuple[str, ...],
    at_ns: int | None,
) -> Iterator[str]:
    own = {name: str(one[name]) for name in names if one.get(name) is not None}
    skipped = {*names, "start_ms", "end_ms"}
    fields = {name: value for name, value in one.items() if name not in skipped}
    written = line(measurement, {**tags, **own}, fields, at_ns)
    if written:
        yield written


def _escaped(name: str) -> str:
    return _tag(name)


def _tag(text: str) -> str:
    text = _cut(text.translate(_CONTROL)).replace("\\", "/")
    # A space at an end would be lost to some readers; inside it is escaped.
    for mark in (",", "=", " "):
        text = text.replace(mark, f"\\{mark}")
    return text


def _field(value: Value) -> str | None:
    if value is None:
        return None
    if isinstance(value, int):
        return f"{value}i" if abs(value) <= _MAX_INTEGER else None
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    text = _cut(value.translate(_CONTROL)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _cut(text: str) -> str:
    """Return a text within the protocol's limit, cut between characters."""
    data = text.encode("utf-8", "replace")
    return data[: MAX_TEXT_BYTES // 2].decode("utf-8", "ignore")
