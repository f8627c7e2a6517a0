"""What drifts in a version altogether: many devices' evidence as one finding per feature.

It is told of those whose own alarm stands, and of those who are discovered beside them
(`whimbrel_server.domain.standing`) where they have an effect. A finding is *hidden* when the fleet's
merged counts show no effect at all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from whimbrel_core.profile.drift.levels import LEVELS, State
from whimbrel_core.profile.watching.alarms import STATES, WARN, Severity, severity_of
from whimbrel_core.profile.watching.evidence import NEVER
from whimbrel_server.domain.gathering import Gathered, gathered
from whimbrel_server.domain.standing import Counts, Floats, Standing, discovered, evidence
from whimbrel_server.domain.subjects import FLEET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# One device is told by its own alert; from here a finding takes the place of them all.
_SEVERAL = 2
_ONE_OF = 10
_TOLD_AGAIN = 4


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
    cohorts = gathered(who, members, len(standing.devices))
    scope, within = FLEET, np.arange(len(standing.devices))
    for one in cohorts:
        # All who drift are of one cohort, and at least half of it drifts: it is about the cohort.
        if not average and one.drifting == len(who) and 2 * one.drifting >= one.devices:
            scope, within = one.cohort, members[f"c:{one.cohort}"]
            cohorts = ()
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
        gathered=cohorts,
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


def _most(names: Sequence[str]) -> str:
    return max(sorted(set(names)), key=names.count) if names else ""
