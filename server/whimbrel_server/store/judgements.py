"""Judgements as rows: what a window (or a period of a group) says, and what is shown of it."""

from __future__ import annotations

import msgspec

from whimbrel_server.domain import drift


class StoredJudgement(msgspec.Struct, frozen=True):
    """A judgement as it is stored. ``shown`` is empty until the history was replayed."""

    judged: drift.Judged
    shown: tuple[drift.Shown, ...] = ()

    def row(self, digest: str, subject: str, level: str) -> dict[str, object]:
        """Return it as a row of the table."""
        judged = self.judged
        return {
            "digest": digest,
            "subject": subject,
            "start_ms": judged.position.start_ms,
            "key": judged.position.key,
            "level": level,
            "end_ms": judged.end_ms,
            "rows": judged.rows,
            "worst": drift.worst_of(shown.level for shown in self.shown),
            "payload": msgspec.msgpack.encode(self),
        }
