"""Devices unlike the others: each against the rest of its peers, leave-one-out.

Counts add, so they also subtract: the rest is all peers' counts less the device's own. What is
compared are the numbers that the detectors watch (`whimbrel_core.profile.watching.components`: location,
scale, shares, missing), in standard deviations of the reference.

Devices of a healthy fleet differ by about .2 of those, and a period of many rows shows that beyond
any doubt. So an outlier is not one that differs from the rest beyond *sampling* error, but beyond
how far the *others* differ from each other. That spread is taken robustly (median absolute
deviation over the devices, so that outliers do not widen it), less what sampling explains, with the
prior of .2 sd worth four devices. A device stands out where it is farther from the median device
than all peers together, over all that is watched, would be by chance once in a hundred periods;
and where its distance from the rest is a warning's by the thresholds of drift, too.

What a device is told of hangs on its newest periods: some in a row until it is called an outlier
(``confirm``), and some without until it is not (``calm``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.drift.chisquare import erfc
from whimbrel_core.profile.drift.judge import Judge
from whimbrel_core.profile.drift.levels import State
from whimbrel_core.profile.drift.stacking import stacked
from whimbrel_server.domain.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_core.profile.drift.levels import Thresholds
    from whimbrel_core.profile.watching.alarms import Severity
    from whimbrel_core.profile.watching.components import Components

Floats = NDArray[np.float64]

# Fewer peers say nothing of how devices differ.
LEAST_PEERS = 3
_CHANCE = 0.01  # of any false outlier among all peers and all that is watched, per period
_DEVICE_SD = 0.2  # how much devices of a healthy fleet differ: as the detectors take it
_PRIOR_DEVICES = 4.0
_MAD = 1.4826  # median absolute deviation of a normal variable, to its standard deviation
# Distances from the rest are measured for so many at most in one period, the farthest first: where
# more stand out, it is not devices that are unlike the others.
_MEASURED = 64


class Standout(msgspec.Struct, frozen=True, kw_only=True):
    """A device that stands out from its peers in one period, by one feature.

    Args:
        device: id.
        feature: name.
        what: the component that is farthest: location, scale, share of …, missing.
        shift: the device's component less that of the rest, in reference standard deviations.
        spread: how much the peers differ in it, likewise.
        z: how many spreads (and sampling errors) the device is from the median device.
        psi, w1_sd: distances of the device from the rest.
        level: of those distances, "warn" at least.
        peers: who they are: ``fleet``, or the cohort.
    """

    device: str
    feature: str
    what: str
    shift: float
    spread: float
    z: float
    psi: float | None
    w1_sd: float | None
    level: State
    peers: str = "fleet"


class Outlier(msgspec.Struct, frozen=True, kw_only=True):
    """A device that is unlike its peers for some periods now."""

    newest: Standout
    since_ms: int
    periods: int


class PeerPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """What one period says of a version's devices: who was compared, and who stood out.

    ``lasting``: who is an outlier with it, if it is the newest one. ``groups``: which devices are
    each other's peers, by name of the cohort (or ``fleet``), where that is not all of them.
    """

    start_ms: int
    devices: tuple[str, ...]
    standouts: tuple[Standout, ...] = ()
    lasting: tuple[Outlier, ...] = ()
    groups: dict[str, tuple[str, ...]] = {}

    def peers(self, name: str) -> tuple[str, ...]:
        """Return the devices that were compared with each other under a name."""
        return self.groups.get(name, ()) if self.groups else self.devices


def standouts(
    baseline: Baseline,
    components: Components,
    thresholds: Thresholds,
    totals: Mapping[str, Totals],
    peers: str = "fleet",
) -> tuple[Standout, ...]:
    """Return the devices that stand out in one period, farthest first; one line per feature.

    Args:
        baseline: of the version.
        components: of the baseline.
        thresholds: of drift: rows and effects.
        totals: the counts of the period by device, of devices that are each other's peers.
        peers: what to call those.
    """
    some = {device: one for device, one in totals.items() if one.rows >= thresholds.min_rows}
    if len(some) < LEAST_PEERS:
        return ()
    devices = list(some)
    cells, invalid, rows = stacked([one.flat() for one in some.values()], baseline.layout)
    own, own_error = components.values(cells, invalid, rows)
    rest, rest_error = components.values(
        cells.sum(axis=0) - cells, invalid.sum(axis=0) - invalid, rows.sum() - rows
    )
    shift, spread, z = _unlike(own - rest, own_error + rest_error)
    beyond = erfc(np.abs(z) / np.sqrt(2.0)) * z.size <= _CHANCE
    found: dict[tuple[int, int], int] = {}
    for d, k in sorted(np.argwhere(beyond).tolist(), key=lambda at: -abs(z[at[0], at[1]])):
        found.setdefault((d, int(components.feature[k])), k)
    measured: list[Standout] = []
    compared: dict[int, Judge] = {}
    whole = Totals(baseline.layout)
    for one in some.values():
        whole.add(one)
    for (d, f), k in list(found.items())[:_MEASURED]:
        if d not in compared:
            others = whole.without(some[devices[d]]).window()
            compared[d] = Judge(baseline, others, thresholds)
        drifted = compared[d].judge(some[devices[d]].window())[f]
        if drifted.state in {"warn", "severe"}:
            measured.append(
                Standout(
                    device=devices[d],
                    feature=drifted.feature,
                    what=components.all[k].name,
                    shift=float(shift[d, k]),
                    spread=float(spread[k]),
                    z=float(z[d, k]),
                    psi=drifted.psi,
                    w1_sd=drifted.w1_sd,
                    level=drifted.state,
                    peers=peers,
                )
            )
    return tuple(measured)


def _unlike(shift: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """Return shifts (D, K), the devices' spread (K,), and shifts from the median in spreads (D, K).

    NaN where too few rows tell; its z is 0.
    """
    known = np.isfinite(shift)
    held = np.where(known, shift, np.nan)
    some = known.sum(axis=0)
    enough = some >= LEAST_PEERS
    held[:, ~enough] = 0.0
    middle = np.nanmedian(held, axis=0)
    ordinary = (_MAD * np.nanmedian(np.abs(held - middle), axis=0)) ** 2
    sampling = np.nanmedian(np.where(known, error, np.nan)[:, enough], axis=0)
    ordinary[enough] = np.maximum(ordinary[enough] - sampling, 0.0)
    variance = (_PRIOR_DEVICES * _DEVICE_SD**2 + some * ordinary) / (_PRIOR_DEVICES + some)
    z = (held - middle) / np.sqrt(variance + np.where(known, error, 1.0))
    return held, np.sqrt(variance), np.where(known & enough, z, 0.0)


def outliers(
    periods: Sequence[PeerPeriod],
    confirm: int,
    calm: int,
    told: frozenset[tuple[str, str]] = frozenset(),
) -> tuple[Outlier, ...]:
    """Return who is an outlier after ``periods`` (oldest first), by device and feature.

    Args:
        periods: the newest ones that are closed.
        confirm: periods in a row of a device that make it one.
        calm: periods in a row of a device that end it.
        told: devices and features that were outliers before.
    """
    found: dict[tuple[str, str], list[Standout | None]] = {}
    starts: dict[str, list[int]] = {}
    for period in periods:
        by_key = {(one.device, one.feature): one for one in period.standouts}
        for device in period.devices:
            starts.setdefault(device, []).append(period.start_ms)
        for key in by_key:
            found.setdefault(key, [None] * (len(starts[key[0]]) - 1))
        for key, history in found.items():
            if len(history) < len(starts[key[0]]):
                history.append(by_key.get(key))
    lasting = []
    for key, history in sorted(found.items()):
        needed = calm if key in told else confirm
        newest = history[-needed:]
        stands = any(newest) if key in told else len(newest) == needed and all(newest)
        last = next((one for one in reversed(history) if one is not None), None)
        if stands and last is not None:
            first = len(history) - 1
            while first > 0 and history[first - 1] is not None:
                first -= 1
            some = [n for n, one in enumerate(history) if one is not None]
            since = first if history[-1] is not None else some[0]
            lasting.append(Outlier(newest=last, since_ms=starts[key[0]][since], periods=len(some)))
    return tuple(lasting)


def severity(level: State) -> Severity:
    """Return how grave a distance from peers is: one less than a drift of the same distance.

    A device may be odd and well, from its first day; a drift is news.
    """
    return "warn" if level == "severe" else "notice"
