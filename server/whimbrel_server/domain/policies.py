"""Whose thresholds hold for a device: the bundle's, or what the server's operator put over them.

An override names a model, a cohort, both, or neither (everything), and the values that it sets.
Values are taken one by one, each from the most specific override that sets it:

1. more labels before fewer (``cohort = "site=ewr,class=arm64"`` before ``"site=ewr"``);
2. with as many labels, one that names the model before one that names none;
3. what no override sets is the bundle's, or the server's own default.

Two overrides of the same rank that set one value differently, and that one device could both
match, are refused at start, unless a more specific one settles it for the devices of both: which
of them won would otherwise hang on their order in a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.bundle.manifest import DriftPolicy
from whimbrel_core.errors import ConfigError
from whimbrel_core.profile.watching import alarms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_DAY_S = 86_400
BUNDLE = "bundle"


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[monitoring.override]]``. None: not set here.

    Args:
        model: name of the model; empty: every model.
        cohort: labels that a device must have, ``key=value``, several with commas; empty: every
            device.
        warn_psi, severe_psi: PSI from which a drift is a warning, and severe.
        min_rows: fewer rows than this are not judged.
        warmup_windows: windows from which a device's own beginning is learnt.
        arl_days: days of windows between two false alarms of the whole fleet.
        confirm_windows: windows in a row with evidence and effect until an alarm.
        calm_windows: lower windows in a row until a level comes down.
        max_quality_drop: realised quality may be this much below the promised one.
    """

    model: str = ""
    cohort: str = ""
    warn_psi: float | None = None
    severe_psi: float | None = None
    min_rows: int | None = None
    warmup_windows: int | None = None
    arl_days: float | None = None
    confirm_windows: int | None = None
    calm_windows: int | None = None
    max_quality_drop: float | None = None

    @property
    def labels(self) -> frozenset[str]:
        """The labels that a device must have, ``key=value``."""
        return frozenset(part.strip() for part in self.cohort.split(",") if part.strip())

    @property
    def rank(self) -> tuple[int, bool]:
        """How specific it is; larger goes before smaller."""
        return len(self.labels), bool(self.model)

    @property
    def title(self) -> str:
        """What it is about, for people.

        >>> Override(model="flights", cohort="site=ewr", min_rows=50).title
        'flights in site=ewr'
        """
        model = self.model or "every model"
        return f"{model} in {', '.join(sorted(self.labels))}" if self.labels else model

    def set_values(self) -> dict[str, float]:
        """Return what it sets, by name."""
        return {name: value for name in VALUES if (value := getattr(self, name)) is not None}

    def matches(self, model: str, labels: Iterable[str]) -> bool:
        """Return whether it holds for a device with ``labels`` that serves ``model``."""
        return self.model in {"", model} and self.labels <= set(labels)


VALUES = (
    "warn_psi", "severe_psi", "min_rows", "warmup_windows", "arl_days", "confirm_windows",
    "calm_windows", "max_quality_drop",
)  # fmt: skip
# Lowest value that has a meaning, and whether it is itself allowed.
_LEAST: dict[str, float] = {
    "min_rows": 1,
    "warmup_windows": 2,
    "confirm_windows": 1,
    "calm_windows": 1,
}


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """The policy that a verdict follows, complete.

    Args:
        declared: thresholds of windows, and the detector's, overrides put in.
        name: ``bundle``, or which overrides set something.
    """

    declared: DriftPolicy
    confirm_windows: int
    calm_windows: int
    max_quality_drop: float
    name: str = BUNDLE

    @property
    def fingerprint(self) -> str:
        """What the states of a device depend on: another one, and its history is judged anew.

        The number of streams is not in it: it moves the threshold of alarms from now on.
        """
        one = self.declared
        return (
            f"rows {one.min_rows} psi {one.warn_psi:g} {one.severe_psi:g} warmup {one.warmup_windows} "
            f"arl {one.arl_s} window {one.window_s} confirm {self.confirm_windows} "
            f"calm {self.calm_windows}"
        )

    def policy(self, streams: int) -> alarms.Policy:
        """Return it for a fleet of ``streams`` device × feature pairs."""
        return alarms.policy_for(
            self.declared, streams=streams, confirm=self.confirm_windows, calm=self.calm_windows
        )


class Policies:
    """The server's defaults and overrides.

    Raises:
        ConfigError: an override is wrong, or two contradict each other.
    """

    def __init__(
        self,
        overrides: Sequence[Override] = (),
        *,
        confirm: int = 2,
        calm: int = 3,
        max_quality_drop: float = 0.05,
    ) -> None:
        require_consistent(overrides)
        # Python's sort is stable, and of one rank at most one sets a value for a device.
        self._overrides = sorted(overrides, key=lambda one: one.rank, reverse=True)
        self._confirm, self._calm, self._drop = confirm, calm, max_quality_drop

    @property
    def any(self) -> bool:
        """Whether there is any override."""
        return bool(self._overrides)

    def quality_cohorts(self, model: str) -> tuple[str, ...]:
        """Return the labels whose devices have a limit of their own for the quality of ``model``."""
        found = {
            label
            for one in self._overrides
            if one.max_quality_drop is not None and one.model in {"", model}
            for label in one.labels
        }
        return tuple(sorted(found))

    def follow(self, model: str, declared: DriftPolicy, labels: Iterable[str] = ()) -> Followed:
        """Return what holds for devices with ``labels`` (``key=value``) that serve ``model``.

        A warning that is overridden to above the bundle's "severe" takes that along: a severe
        drift is never less than a warning.
        """
        found: dict[str, float] = {}
        names: list[str] = []
        labels = set(labels)
        for one in self._overrides:
            if one.matches(model, labels):
                fresh = {
                    name: value for name, value in one.set_values().items() if name not in found
                }
                if fresh:
                    found |= fresh
                    names.append(one.title)
        warn = float(found.get("warn_psi", declared.warn_psi))
        severe = float(found.get("severe_psi", declared.severe_psi))
        if "severe_psi" in found and "warn_psi" not in found:
            warn = min(warn, severe)
        arl_days = found.get("arl_days")
        return Followed(
            declared=msgspec.structs.replace(
                declared,
                warn_psi=warn,
                severe_psi=max(severe, warn),
                min_rows=int(found.get("min_rows", declared.min_rows)),
                warmup_windows=int(found.get("warmup_windows", declared.warmup_windows)),
                arl_s=declared.arl_s if arl_days is None else round(arl_days * _DAY_S),
            ),
            confirm_windows=int(found.get("confirm_windows", self._confirm)),
            calm_windows=int(found.get("calm_windows", self._calm)),
            max_quality_drop=float(found.get("max_quality_drop", self._drop)),
            name=f"{BUNDLE}, overridden for {'; '.join(names)}" if names else BUNDLE,
        )


def require_consistent(overrides: Sequence[Override]) -> None:
    """Require that each override has a meaning, and that no two contradict each other.

    Raises:
        ConfigError: naming them.
    """
    for one in overrides:
        _require_sound(one)
    for at, one in enumerate(overrides):
        for other in overrides[at + 1 :]:
            _require_compatible(one, other, overrides)


def _require_sound(one: Override) -> None:
    what = f"the override of {one.title}"
    values = one.set_values()
    if not values:
        raise ConfigError(f"{what} sets nothing", hint=f"it may set {', '.join(VALUES)}")
    for label in one.labels:
        key, equals, word = label.partition("=")
        if not (equals and key.strip() and word.strip()):
            raise ConfigError(
                f"{what} names the cohort {label!r}", hint='a cohort is a label, like "site=ewr"'
            )
    if len({label.partition("=")[0] for label in one.labels}) < len(one.labels):
        raise ConfigError(f"{what} asks for two values of one label: no device has them")
    if one.max_quality_drop is not None and len(one.labels) > 1:
        raise ConfigError(
            f"{what} sets max_quality_drop for devices with several labels",
            hint="labels of predictions are counted by one label of their devices: name one",
        )
    for name, value in values.items():
        least = _LEAST.get(name)
        if not (value >= least if least is not None else value > 0):
            raise ConfigError(
                f"{what} sets {name} = {value:g}, it must be "
                + (f"{least:g} at least" if least is not None else "above zero")
            )
    if one.warn_psi is not None and one.severe_psi is not None and one.warn_psi > one.severe_psi:
        raise ConfigError(
            f"{what} sets warn_psi = {one.warn_psi:g} above severe_psi = {one.severe_psi:g}"
        )


def _require_compatible(one: Override, other: Override, every: Sequence[Override]) -> None:
    if one.rank != other.rank or not _meet(one, other):
        return
    both = one.labels | other.labels
    for name in sorted(one.set_values().keys() & other.set_values().keys()):
        first, second = getattr(one, name), getattr(other, name)
        same = one.labels == other.labels and one.model == other.model
        if first == second and not same:
            continue
        settled = any(
            third.rank > one.rank
            and third.labels <= both
            and third.model in {"", one.model}
            and name in third.set_values()
            for third in every
        )
        if settled:
            continue
        who = one.title if same else f"{one.title} and {other.title}"
        settle = f'model = "{one.model}", ' if one.model else ""
        raise ConfigError(
            f"the overrides of {who} contradict each other: {name} = {first:g} and {second:g}, "
            "for one and the same device",
            hint="keep one of them"
            if same
            else f'settle it with one that has {settle}cohort = "{",".join(sorted(both))}"',
        )


def _meet(one: Override, other: Override) -> bool:
    """Return whether a device could match both."""
    if one.model and other.model and one.model != other.model:
        return False
    keys: Mapping[str, str] = dict(label.split("=", 1) for label in one.labels if "=" in label)
    return all(
        keys.get(key, value) == value
        for key, _, value in (label.partition("=") for label in other.labels)
    )
