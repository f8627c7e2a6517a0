"""Which judge a device's windows go to: one per version and policy, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.profile.watching.judging import DeviceJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from whimbrel_server.domain.policies import Followed, Policies
    from whimbrel_server.repository import Repository

_EXACT = 8
_MOST = 64


class Judges:
    """The judges of every version.

    Args:
        repository: baselines and what bundles declare.
        policies: the operator's overrides.
        devices: returns how many devices share the false-alarm budget.
        labels: returns the labels of a device, ``key=value``.
    """

    def __init__(
        self,
        repository: Repository,
        policies: Policies,
        *,
        devices: Callable[[], int],
        labels: Callable[[str], Iterable[str]],
    ) -> None:
        self._repository, self._policies = repository, policies
        self._devices, self._labels = devices, labels
        self._judges: dict[tuple[str, Followed, int], DeviceJudge] = {}
        self._followed: dict[tuple[str, frozenset[str]], Followed] = {}

    def followed(self, digest: str, subject: str) -> Followed:
        """Return the policy that holds for a subject: a device, a cohort, or the fleet."""
        labels: Iterable[str] = ()
        if self._policies.any:
            kind, name = subject[:2], subject[2:]
            labels = self._labels(name) if kind == "d:" else [name] if kind == "c:" else ()
        at = (digest, frozenset(labels))
        found = self._followed.get(at)
        if found is None:
            manifest = self._repository.contents(digest).manifest
            found = self._policies.follow(manifest.name, manifest.drift, at[1])
            self._followed[at] = found
        return found

    def of(self, digest: str, subject: str) -> DeviceJudge:
        """Return who judges a subject's windows of one version now."""
        return self.under(digest, self.followed(digest, subject))

    def under(self, digest: str, followed: Followed) -> DeviceJudge:
        """Return who judges windows of one version under a policy."""
        devices = counted(self._devices())
        at = (digest, followed, devices)
        judge = self._judges.get(at)
        if judge is None:
            if len(self._judges) >= _MOST:
                self._judges.clear()  # a fleet that grows leaves old budgets behind
            baseline = self._repository.contents(digest).baseline
            policy = followed.policy(devices * len(baseline.layout.features))
            policy = msgspec.structs.replace(policy, source=followed.name)
            judge = self._judges[at] = DeviceJudge(baseline, policy)
        return judge


def counted(devices: int) -> int:
    """Return how many devices a budget is shared by: rounded up, by a quarter at most.

    With every single enrolment there would be another policy for everything that is judged.

    >>> [counted(n) for n in (0, 3, 8, 9, 100, 1000)]
    [1, 3, 8, 10, 112, 1024]
    """
    if devices <= _EXACT:
        return max(devices, 1)
    step = 1 << (devices.bit_length() - 3)
    return -(-devices // step) * step
