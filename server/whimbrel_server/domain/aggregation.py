"""Windows into aggregates: per model version, subject and period one merged profile.

A *period* is an hour or a day of event time (UTC), or all of it. A window belongs to the period in
which it starts, whenever it arrives: a late window is another add
(`whimbrel_server.domain.subjects`, `whimbrel_server.domain.totals`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from whimbrel_server.domain.subjects import FLEET, device_subject
from whimbrel_server.domain.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from whimbrel_core.profile.flat import FlatWindow
    from whimbrel_core.profile.layout import Layout

Step = Literal["hour", "day", "all"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Key(msgspec.Struct, frozen=True, order=True):
    """Where counts are added up. ``bucket_ms`` is the start of the period (0 for "all")."""

    digest: str
    subject: str
    step: Step
    bucket_ms: int


def step_of(window_s: int) -> Step:
    """Return the period by which groups and peers are judged, for windows of so many seconds."""
    return "hour" if window_s * 1000 < HOUR_MS else "day"


def keys_of(
    digest: str, device: str, cohorts: Iterable[str], start_ms: int, end_ms: int
) -> tuple[Key, ...]:
    """Return every key to which a window is added.

    Windows that last an hour or longer have no hourly resolution to keep.
    """
    subject = device_subject(device)
    day = start_ms - start_ms % DAY_MS
    keys = [Key(digest, subject, "all", 0), Key(digest, FLEET, "all", 0)]
    for one in (subject, *cohorts, FLEET):
        keys.append(Key(digest, one, "day", day))
        if end_ms - start_ms < HOUR_MS:
            keys.append(Key(digest, one, "hour", start_ms - start_ms % HOUR_MS))
    return tuple(keys)


class Sums:
    """Windows of a batch added up by device and hour, so that each key is added to once for many.

    Iterating gives every key with what is to be added to it (a key may come several times).
    """

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], tuple[tuple[Key, ...], Totals]] = {}

    def add(
        self,
        layout: Layout,
        digest: str,
        device: str,
        cohorts: tuple[str, ...],
        window: FlatWindow,
    ) -> None:
        """Add one window of a device (which must fit ``layout``)."""
        start_ms, end_ms = window.start_ms, window.end_ms
        # All that `keys_of` depends on.
        place = (digest, device, cohorts, start_ms // HOUR_MS, end_ms - start_ms < HOUR_MS)
        totals = Totals.of_flat(layout, window)
        found = self._found.get(place)
        if found is None:
            self._found[place] = (keys_of(digest, device, cohorts, start_ms, end_ms), totals)
        else:
            found[1].add(totals)

    def __iter__(self) -> Iterator[tuple[Key, Totals]]:
        """Return an iterator over keys and sums."""
        return ((key, totals) for keys, totals in self._found.values() for key in keys)
