"""How the subjects of aggregates are shown, and how they are stored.

A subject is one device (stored as ``d:<id>``), a cohort of devices by a label (``c:<key>=<value>``),
or the whole fleet. People and programs name a device by its id alone, and a cohort ``key=value``.
"""

from __future__ import annotations

from whimbrel_server.domain.aggregation import FLEET, device_subject


def stored_subject(subject: str) -> str:
    """Return how a subject is stored: ``fleet``, a cohort ``key=value``, or a device."""
    if subject == FLEET:
        return FLEET
    return f"c:{subject}" if "=" in subject else device_subject(subject)


def shown_subject(subject: str) -> str:
    """Return how a stored subject is shown."""
    return subject if subject == FLEET else subject[2:]
