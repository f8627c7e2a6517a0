"""Subjects: whose windows are added up, how they are stored, and how they are shown.

A subject is one device (stored as ``d:<id>``), a cohort of devices by a label (``c:<key>=<value>``),
or the whole fleet (``fleet``). People and programs name a device by its id alone, and a cohort
``key=value``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FLEET = "fleet"


def device_subject(device: str) -> str:
    """Return the subject of one device."""
    return f"d:{device}"


def cohort_subject(key: str, value: str) -> str:
    """Return the subject of the devices with one label."""
    return f"c:{key}={value}"


def cohorts_of(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the cohorts that a device with ``labels`` belongs to."""
    return tuple(cohort_subject(key, value) for key, value in sorted(labels.items()))


def stored_subject(subject: str) -> str:
    """Return how a subject is stored: ``fleet``, a cohort ``key=value``, or a device."""
    if subject == FLEET:
        return FLEET
    return f"c:{subject}" if "=" in subject else device_subject(subject)


def shown_subject(subject: str) -> str:
    """Return how a stored subject is shown."""
    return subject if subject == FLEET else subject[2:]
