"""What a drift may come from: who else has it, since when, and what was changed about then.

Facts go in, what follows from them comes out, and no more than follows: that a rollout came two
hours before a drift is told as that, not as its cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["version", "rollout", "agent", "label", "clock", "configuration"]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# A change shows in the windows after it, and the detector dates it within some windows.
_WINDOWS_NEAR = 8
# Windows' times and the server's log are of one clock when an alarm comes within this of its window:
# a device may have been offline for weeks. Further apart they are of two (a replay of old events).
_ONE_CLOCK_MS = 60 * _DAY_MS
# Of the devices with a label so many must have drifted for the label to be worth naming.
_MOST = 2 / 3
_SEVERAL = 2


class Happening(msgspec.Struct, frozen=True, order=True):
    """Something that was changed, or changed by itself, on a device."""

    at_ms: int
    kind: Kind
    text: str


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """How a device came to serve the version that drifts.

    Args:
        version: number of it.
        first_ms: start of its first window on the device, event time.
        switched_ms: when the device switched to it, by the device's clock; None: not known.
        rollout: the rollout that brought it; None: assigned directly, or not known.
        before: the version that it replaced; "" when not known.
    """

    version: str
    first_ms: int
    switched_ms: int | None = None
    rollout: int | None = None
    before: str = ""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another device that serves the version; ``since_ms``: when the feature drifted there."""

    device: str
    labels: dict[str, str] = {}
    since_ms: int | None = None


class Companion(msgspec.Struct, frozen=True):
    """Another feature that drifted on the same device."""

    feature: str
    since_ms: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known around an alarm of one feature on one device.

    Args:
        since_ms: about when it began; None: the detector could not tell.
        at_ms: end of the window with which it was sure, event time.
        raised_ms: when the alert was raised, by the server's clock.
        window_ms: length of a window.
    """

    device: str
    labels: dict[str, str] = {}
    since_ms: int | None
    at_ms: int
    raised_ms: int
    window_ms: int
    arrival: Arrival | None = None
    peers: tuple[Peer, ...] = ()
    companions: tuple[Companion, ...] = ()
    happenings: tuple[Happening, ...] = ()
    earlier: str = ""
    slices: tuple[str, ...] = ()
    calm_slices: tuple[str, ...] = ()


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """What follows; see `whimbrel_server.views.verdicts.AttributionView`.

    ``served_ms``: how long the version had been served when it began; None where the clocks of
    the windows and of the device cannot be put beside each other. ``one_clock``: whether they can.
    """

    since_ms: int | None
    features: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    others: int = 0
    cohort: str = ""
    slices: tuple[str, ...] = ()
    calm_slices: tuple[str, ...] = ()
    arrival: Arrival | None = None
    served_ms: int | None = None
    near: tuple[Happening, ...] = ()
    near_rollout: bool = False
    one_clock: bool = True
    earlier: str = ""


def attribute(facts: Facts) -> Attribution:
    """Return what follows from ``facts``."""
    one_clock = abs(facts.raised_ms - facts.at_ms) <= _ONE_CLOCK_MS
    since, reach = facts.since_ms, nearness(facts.window_ms)
    drifted = [peer for peer in facts.peers if peer.since_ms is not None]
    together = [peer for peer in drifted if _close(peer.since_ms, since, reach)]
    served = _served(facts.arrival, since, one_clock=one_clock)
    shared = {facts.device: facts.labels} | {peer.device: peer.labels for peer in facts.peers}
    return Attribution(
        since_ms=since,
        features=tuple(
            one.feature for one in facts.companions if _close(one.since_ms, since, reach)
        ),
        devices=tuple(peer.device for peer in together),
        elsewhere=tuple(peer.device for peer in drifted if peer not in together),
        others=len(facts.peers),
        cohort=shared_label([facts.device, *(peer.device for peer in together)], shared),
        slices=facts.slices,
        calm_slices=facts.calm_slices,
        arrival=facts.arrival,
        served_ms=served,
        near=tuple(
            sorted(one for one in facts.happenings if _shortly_before(one.at_ms, since, facts))
        )
        if one_clock
        else (),
        near_rollout=served is not None and 0 <= served <= reach,
        one_clock=one_clock,
        earlier=facts.earlier,
    )


def nearness(window_ms: int) -> int:
    """Return within how many ms two beginnings count as one: a day, or a few windows."""
    return max(_DAY_MS, _WINDOWS_NEAR * window_ms)


def shared_label(drifted: Sequence[str], labels: Mapping[str, Mapping[str, str]]) -> str:
    """Return the label ``key=value`` that tells the drifted from the others; "" when none does.

    All the drifted have it, most that have it drifted, and some device lacks it. Of several it is
    the one that fewest devices have.

    >>> labels = {"a": {"site": "n"}, "b": {"site": "n"}, "c": {"site": "s"}}
    >>> shared_label(["a", "b"], labels), shared_label(["a", "c"], labels)
    ('site=n', '')
    """
    if len(drifted) < _SEVERAL:
        return ""
    common = set.intersection(*(set(labels.get(one, {}).items()) for one in drifted))
    fitting = []
    for key, value in common:
        have = [device for device, own in labels.items() if own.get(key) == value]
        if len(have) < len(labels) and len(drifted) >= _MOST * len(have):
            fitting.append((len(have), f"{key}={value}"))
    return min(fitting)[1] if fitting else ""


def _served(arrival: Arrival | None, since: int | None, *, one_clock: bool) -> int | None:
    if arrival is None or since is None:
        return None
    # The device's own time of the switch is the better one, where it is of the same clock. It may
    # lie after the first window's start: a window that was carried on.
    began = arrival.first_ms
    if one_clock and arrival.switched_ms is not None:
        began = min(arrival.switched_ms, began)
    return since - began


def _close(at_ms: int | None, since: int | None, reach: int) -> bool:
    return at_ms is not None and since is not None and abs(at_ms - since) <= reach


def _shortly_before(at_ms: int, since: int | None, facts: Facts) -> bool:
    if since is None:
        return False
    # The detector dates a change to the start of a window, give or take some.
    return since - nearness(facts.window_ms) <= at_ms <= since + 2 * facts.window_ms
