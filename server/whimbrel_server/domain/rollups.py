"""What drifts in a version altogether: many devices' evidence as one finding per feature.

Evidence of a group (the fleet, a cohort) is the *sum* of its devices' e-detectors, and it is due
where a device's is: at streams × ARL. Each of them compares one device with that device's own
beginning, so a group that grows, shrinks or is heard of late shifts nothing. And the sum over any
group is at most the sum over the fleet: however many cohorts are asked, and however they overlap
and depend on each other, the fleet's sum passes the threshold whenever any of them, or any single
device, does. One false-alarm budget covers all of them (see docs/adr).

*Which* devices drift is a list of its own, controlled for false discoveries: e-BH over all device ×
feature streams of the version (Wang & Ramdas 2022), of those with an effect; and devices whose own
alarm stands, by the budget above.

A finding is *hidden* when the fleet's merged counts show no effect at all.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from whimbrel_core.profile.drift.discoveries import e_benjamini_hochberg
from whimbrel_core.profile.drift.levels import LEVELS, State
from whimbrel_core.profile.watching.alarms import STATES, WARN, Severity, severity_of
from whimbrel_core.profile.watching.sequential import NEVER
from whimbrel_server.domain.aggregation import FLEET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Of the devices that are called drifting at most this share are not, on average.
Q = 0.05
# One device is told by its own alert; from here a finding takes the place of them all.
_SEVERAL = 2
_ONE_OF = 10
# How sure it must be that drifting devices gather in a cohort, over all cohorts that are asked.
_GATHERED = 0.01
_NAMED = 2
_TOLD_AGAIN = 4


class Standing(NamedTuple):
    """The devices of one version as they stand after their newest windows, arrays (D, F).

    ``cohorts``: stored subjects of each device, ``c:key=value``. ``log_e``: the e-detectors'
    logarithms; −inf while they learn. ``threshold`` (D,): where each device's alarm is due.
    ``watched`` (D,): windows after the warm-up. ``level``: held, an index into LEVELS, −1: too few
    rows. ``alarm``: the severity of the device's own alarm, likewise; −1: none. ``psi``: of the newest
    window; NaN where it is not known.
    """

    devices: Sequence[str]
    cohorts: Sequence[tuple[str, ...]]
    log_e: Floats
    threshold: Floats
    watched: Counts
    level: Counts
    alarm: Counts
    since_ms: Counts
    component: Counts
    psi: Floats


class Periods(NamedTuple):
    """A group's merged counts against the baseline, by closed or open period, oldest first.

    Args:
        start_ms: (P,).
        level: (P, F) as each period was judged by itself; −1: too few rows.
        psi: (P, F); NaN: no rows.
        w1_sd: (P, F); NaN: words, or no rows.
    """

    start_ms: Counts
    level: Counts
    psi: Floats
    w1_sd: Floats


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """A cohort in which drifting devices gather, beyond chance."""

    cohort: str
    drifting: int
    devices: int


class Drifting(msgspec.Struct, frozen=True, kw_only=True):
    """A device that drifts.

    Args:
        device: id.
        level: its effect's, held.
        log_e: its evidence.
        alarm: whether its own alarm stands; else it is known by e-BH, beside the others.
        since_ms: about when it began; None without an alarm.
        psi: of its newest window.
    """

    device: str
    level: State
    log_e: float
    alarm: bool
    since_ms: int | None = None
    psi: float | None = None


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """The drift of one feature of one version, wherever it is.

    Args:
        feature: name.
        scope: the devices that it is told of: ``fleet``, or the cohort that holds all who drift.
        devices: how many those are.
        drifting: the ones that drift, strongest evidence first.
        alarmed: those of them whose own alarm stands.
        gathered: cohorts in which they gather beyond chance.
        severity: the worst of the alarms, or of the group's own effect.
        since_ms: the middle one of when the devices began to drift.
        what: the component that speaks on most of them.
        log_e: the scope's evidence, and ``threshold`` where it is due.
        psi: of the scope's newest period, all its devices merged; ``w1_sd`` likewise.
        fleet_psi: of the whole fleet's newest period; ``fleet_psi_before``: in the middle one of
            the periods before the drift began.
        average: whether the scope's merged counts have an effect that lasts, with evidence.
        hidden: whether the fleet's merged counts have none at all.
        alert: whether this is told instead of its devices' alerts.
    """

    feature: str
    scope: str
    devices: int
    drifting: tuple[Drifting, ...]
    alarmed: int
    gathered: tuple[Gathered, ...]
    severity: Severity
    since_ms: int | None
    what: str
    log_e: float
    threshold: float
    psi: float | None
    w1_sd: float | None
    fleet_psi: float | None
    fleet_psi_before: float | None
    average: bool
    hidden: bool
    alert: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The devices that drift, strongest evidence first."""
        return tuple(one.device for one in self.drifting)


def discovered(standing: Standing, q: float = Q) -> Flags:
    """Return (D, F) which streams are drifting now, at false discovery rate ``q`` over all of them.

    At any time t a Shiryaev–Roberts sum has expectation t at most without a change, so that
    e^log_e / t is an e-value, and e-BH holds however streams depend on each other.
    """
    found = np.zeros(standing.log_e.shape, bool)
    warmed = np.flatnonzero(standing.watched > 0)
    if len(warmed):
        log_e = standing.log_e[warmed] - np.log(standing.watched[warmed])[:, np.newaxis]
        found[warmed] = e_benjamini_hochberg(log_e.ravel(), q).reshape(log_e.shape)
    return found


def roll_up(  # noqa: PLR0917 - all of it is what is rolled up
    features: Sequence[str],
    components: Sequence[str],
    standing: Standing,
    periods: Mapping[str, Periods],
    confirm: int,
    calm: int,
    open_alerts: Mapping[str, bool],
) -> tuple[Rollup, ...]:
    """Return a finding for each feature that drifts anywhere, in the layout's order.

    Args:
        features: names, in the layout's order.
        components: names, which ``standing.component`` indexes.
        standing: every device that serves the version.
        periods: merged counts of the fleet and of cohorts (stored subjects), as far as known.
        confirm: periods in a row until a group's effect counts.
        calm: periods in a row until it counts no more.
        open_alerts: by feature, for findings that are told already: whether as an average's.
    """
    evident = discovered(standing) & (standing.level >= WARN)
    drifting = evident | (standing.alarm >= 0)
    sizes: dict[str, list[int]] = {}
    for d, cohorts in enumerate(standing.cohorts):
        for cohort in cohorts:
            sizes.setdefault(cohort, []).append(d)
    members = {
        cohort: np.array(some)
        for cohort, some in sizes.items()
        if _SEVERAL <= len(some) < len(standing.devices)
    }
    # In units of an alarm: 0 is where it is due. Devices may follow different policies.
    excess = standing.log_e - standing.threshold[:, np.newaxis]
    found = []
    for f, feature in enumerate(features):
        was = open_alerts.get(feature)
        who = np.flatnonzero(drifting[:, f])
        average = (
            # In a small fleet one device moves the average, and is told by its own alert.
            (len(who) != 1 or len(standing.devices) > _ONE_OF)
            and _lasting(
                periods.get(FLEET), f, 1 if was is True else confirm, calm if was else confirm
            )
            and evidence(excess[:, f]) >= 0
        )
        if len(who) or average:
            found.append(
                _rollup(
                    f,
                    feature,
                    components,
                    standing,
                    excess[:, f],
                    who,
                    members,
                    periods,
                    average=average,
                    alert=len(who) >= _SEVERAL or average or (was is not None and len(who) > 0),
                )
            )
    return tuple(found)


def _rollup(  # noqa: PLR0917 - one finding's parts
    f: int,
    feature: str,
    components: Sequence[str],
    standing: Standing,
    excess: Floats,
    who: NDArray[np.intp],
    members: Mapping[str, NDArray[np.intp]],
    periods: Mapping[str, Periods],
    *,
    average: bool,
    alert: bool,
) -> Rollup:
    gathered = _gathered(who, members, len(standing.devices))
    scope, within = FLEET, np.arange(len(standing.devices))
    for one in gathered:
        # All who drift are of one cohort, and at least half of it drifts: it is about the cohort.
        if not average and one.drifting == len(who) and 2 * one.drifting >= one.devices:
            scope, within = one.cohort, members[f"c:{one.cohort}"]
            gathered = ()
            break
    strongest = who[np.argsort(-excess[who], kind="stable")]
    began = standing.since_ms[who, f]
    began = began[began != NEVER]
    since_ms = int(np.sort(began)[(len(began) - 1) // 2]) if len(began) else None
    speaks = strongest if len(who) else within
    fleet = periods.get(FLEET)
    own = periods.get(FLEET if scope == FLEET else f"c:{scope}")
    worst = int(standing.alarm[who, f].max(initial=-1))
    if worst < 0 and len(who):
        worst = int(standing.level[who, f].max())
    if average and fleet is not None:
        worst = max(worst, int(fleet.level[-1, f]), WARN)
    hidden = (
        bool(len(who))
        and fleet is not None
        and len(fleet.level) > 0
        and int(fleet.level[-1, f]) == LEVELS.index("ok")
    )
    total = evidence(excess[within])
    threshold = float(np.median(standing.threshold[within]))
    return Rollup(
        feature=feature,
        scope=scope,
        devices=len(within),
        drifting=tuple(_device(standing, d, f) for d in strongest.tolist()),
        alarmed=int((standing.alarm[who, f] >= 0).sum()),
        gathered=gathered,
        severity=severity_of(STATES[worst + 1], "warn") or "warn",
        since_ms=since_ms,
        what=_most([components[c] for c in standing.component[speaks, f].tolist()]),
        log_e=threshold + total,
        threshold=threshold,
        psi=_newest(own, "psi", f),
        w1_sd=_newest(own, "w1_sd", f),
        fleet_psi=_newest(fleet, "psi", f),
        fleet_psi_before=_before(fleet, f, since_ms),
        average=average,
        hidden=hidden,
        alert=alert,
    )


def _device(standing: Standing, d: int, f: int) -> Drifting:
    since_ms, psi = int(standing.since_ms[d, f]), float(standing.psi[d, f])
    return Drifting(
        device=standing.devices[d],
        level=STATES[int(standing.level[d, f]) + 1],
        log_e=float(standing.log_e[d, f]),
        alarm=bool(standing.alarm[d, f] >= 0),
        since_ms=None if since_ms == NEVER else since_ms,
        psi=None if math.isnan(psi) else psi,
    )


def worth_telling_again(told: int, now: int) -> bool:
    """Return whether a finding has grown so much since it was last told that it is news."""
    return now >= _TOLD_AGAIN * max(told, 1)


def evidence(logs: Floats) -> float:
    """Return a group's evidence from its devices': the logarithm of the sum; −inf of nothing."""
    top = float(logs.max(initial=-math.inf))
    return top + math.log(float(np.exp(logs - top).sum())) if math.isfinite(top) else -math.inf


def _lasting(periods: Periods | None, f: int, least: int, among: int) -> bool:
    """Return whether ``least`` of the newest ``among`` judged periods have an effect."""
    if periods is None:
        return False
    levels = periods.level[:, f]
    newest = levels[levels >= 0][-among:]
    return int((newest >= WARN).sum()) >= least


def _newest(periods: Periods | None, name: str, f: int) -> float | None:
    if periods is None or not len(periods.start_ms):
        return None
    value = float(getattr(periods, name)[-1, f])
    return value if math.isfinite(value) else None


def _before(periods: Periods | None, f: int, since_ms: int | None) -> float | None:
    if periods is None or since_ms is None:
        return None
    earlier = periods.psi[periods.start_ms < since_ms, f]
    earlier = earlier[np.isfinite(earlier)]
    return float(np.median(earlier)) if len(earlier) else None


def _gathered(
    who: NDArray[np.intp], members: Mapping[str, NDArray[np.intp]], devices: int
) -> tuple[Gathered, ...]:
    """Return the cohorts in which at least half of ``who`` are, more than chance would have it."""
    found = []
    for cohort, some in members.items():
        inside = len(np.intersect1d(who, some, assume_unique=True))
        if inside < _SEVERAL or 2 * inside < len(who):
            continue
        chance = _tail(inside, len(some), len(who), devices)
        if chance * len(members) <= _GATHERED:
            found.append((chance, Gathered(cohort=cohort[2:], drifting=inside, devices=len(some))))
    found.sort(key=lambda one: (one[0], one[1].cohort))
    return tuple(one for _, one in found[:_NAMED])


def _tail(inside: int, cohort: int, drifting: int, devices: int) -> float:
    """Return the chance that ``inside`` or more of ``drifting`` devices fall into a cohort.

    Hypergeometric: as if the drifting ones were drawn blindly among all devices.
    """
    logs = _log_factorials(devices)
    k = np.arange(inside, min(cohort, drifting) + 1)
    k = k[drifting - k <= devices - cohort]
    ways = (
        logs[cohort] - logs[k] - logs[cohort - k]
        + logs[devices - cohort] - logs[drifting - k] - logs[devices - cohort - drifting + k]
        - (logs[devices] - logs[drifting] - logs[devices - drifting])
    )  # fmt: skip
    return float(np.exp(ways).sum())


@lru_cache(8)
def _log_factorials(n: int) -> Floats:
    found: Floats = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return found


def _most(names: Sequence[str]) -> str:
    return max(sorted(set(names)), key=names.count) if names else ""
