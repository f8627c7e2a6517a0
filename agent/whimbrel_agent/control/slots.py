"""The slots of this device in ``agent.db``: machine states, quarantine, release floors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_agent.update.machine import SlotState

if TYPE_CHECKING:
    from whimbrel_agent.control.state import StateFile

_DECODER = msgspec.json.Decoder(SlotState)


class Quarantined(msgspec.Struct, frozen=True):
    """A digest that failed on this device: never tried again until an operator forgives it."""

    digest: str
    slot: str
    code: str
    reason: str
    at_ms: int


class SlotStore:
    """Reads and writes slot states; each write is one transaction."""

    def __init__(self, state: StateFile) -> None:
        self._state = state

    def load(self) -> dict[str, SlotState]:
        """Return the states of all slots by name. Raises `StorageError`."""
        rows = self._state.query("SELECT slot, state FROM slots ORDER BY slot")
        return {str(slot): _DECODER.decode(body) for slot, body in rows}  # type: ignore[arg-type]

    def save(self, state: SlotState, quarantine: Quarantined | None = None) -> None:
        """Store a slot's state, and with it the quarantine of a digest. Raises `StorageError`."""
        with self._state.transaction() as db:
            if state.phase == "empty" and state.wanted is None:
                db.execute("DELETE FROM slots WHERE slot = ?", (state.slot,))
            else:
                db.execute(
                    "INSERT INTO slots (slot, state) VALUES (?, ?) "
                    "ON CONFLICT (slot) DO UPDATE SET state = excluded.state",
                    (state.slot, msgspec.json.encode(state)),
                )
            if quarantine is not None:
                db.execute(
                    "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?, ?)",
                    msgspec.structs.astuple(quarantine),
                )

    def save_assignment(self, states: list[SlotState], revision: int) -> None:
        """Store what is wanted of every slot and the revision that said so, together."""
        with self._state.transaction() as db:
            for state in states:
                db.execute(
                    "INSERT INTO slots (slot, state) VALUES (?, ?) "
                    "ON CONFLICT (slot) DO UPDATE SET state = excluded.state",
                    (state.slot, msgspec.json.encode(state)),
                )
            self._state.put("revision", revision)

    def quarantined(self) -> dict[str, Quarantined]:
        """Return the quarantine by digest."""
        rows = self._state.query(
            "SELECT digest, slot, code, reason, at_ms FROM quarantine ORDER BY at_ms, digest"
        )
        return {
            str(digest): Quarantined(str(digest), str(slot), str(code), str(reason), int(str(at)))
            for digest, slot, code, reason, at in rows
        }

    def forgive(self, digest: str) -> bool:
        """Take a digest out of quarantine; return whether it was there."""
        with self._state.transaction() as db:
            return bool(db.execute("DELETE FROM quarantine WHERE digest = ?", (digest,)).rowcount)

    def floors(self) -> dict[str, int]:
        """Return the lowest release per model name that this device still takes."""
        return {
            str(name): int(str(release))
            for name, release in self._state.query("SELECT name, release FROM floors")
        }

    def raise_floor(self, name: str, release: int) -> None:
        """Never take a release of ``name`` below ``release`` again."""
        with self._state.transaction() as db:
            db.execute(
                "INSERT INTO floors (name, release) VALUES (?, ?) ON CONFLICT (name) "
                "DO UPDATE SET release = max(release, excluded.release)",
                (name, release),
            )
