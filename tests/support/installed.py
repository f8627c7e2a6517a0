"""What a device has installed when a test begins: bundles in its store, slots that serve them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_agent.control.slots import SlotStore
from whimbrel_agent.control.state import StateFile
from whimbrel_agent.update.machine import Installed, SlotState
from whimbrel_core.wire.assignment import Probation, SlotAssignment

if TYPE_CHECKING:
    from tests.support.models import MadeBundle
    from whimbrel_agent.paths import DataDirectory

_NONE = Probation(rows=0, labels=0)


def assigned(made: MadeBundle, probation: Probation = _NONE) -> SlotAssignment:
    """Return what a fleet says of a slot that is to serve ``made``."""
    path = f"bundles/{made.manifest.name}/{made.manifest.title}.whim"
    return SlotAssignment(path, made.digest, made.path.stat().st_size, probation=probation)


def installed(made: MadeBundle) -> Installed:
    """Return what a device knows of a version that it has proven."""
    return Installed(
        assigned(made),
        name=made.manifest.name,
        version=made.manifest.version,
        release=made.manifest.release,
        parity_passed=True,
        keys=(made.pem,),
    )


def install(
    home: DataDirectory,
    made: MadeBundle,
    *,
    slot: str = "churn",
    previous: MadeBundle | None = None,
    wanted: SlotAssignment | None = None,
    revision: int = 1,
) -> None:
    """Leave in ``home`` what an update does, so that an agent serves ``made`` from its start.

    Args:
        home: data directory; it is made.
        made: serves.
        slot: in this slot.
        previous: served before.
        wanted: what the fleet wants by now; None: ``made``.
        revision: of the document that said so.
    """
    home.create()
    for one in filter(None, (made, previous)):
        home.bundle(one.digest).write_bytes(one.path.read_bytes())
    now = installed(made)
    save(
        home,
        SlotState(
            slot,
            "serving",
            wanted=wanted or now.assignment,
            revision=revision,
            current=now,
            previous=None if previous is None else installed(previous),
            committed=True,
        ),
    )


def save(home: DataDirectory, *slots: SlotState) -> None:
    """Store the states of slots, and the revision that they are of."""
    state = StateFile(home.database)
    try:
        SlotStore(state).save_assignment(list(slots), max(slot.revision for slot in slots))
    finally:
        state.close()
