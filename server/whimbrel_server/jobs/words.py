"""Reads the new words of categories that enough devices have told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.profile.privacy.words import reveal
from whimbrel_server.store import words

if TYPE_CHECKING:
    from whimbrel_server.repository import Repository
    from whimbrel_server.store.database import Database


def release_words(database: Database, repository: Repository, now_ms: int) -> None:
    """Write down every word that can be read now; how many devices it takes, its bundle says."""
    needed = {
        published.digest: repository.contents(published.digest).manifest.drift.release_words
        for published in repository.published()
        if not published.problem
    }
    found = []
    with database.read() as connection:
        for digest, feature, tag in words.ripe(connection, needed):
            told = words.tellings(connection, digest, feature, tag)
            word = reveal(told, k=needed[digest])
            if word is not None:
                found.append((digest, feature, tag, word))
    if found:
        database.write(lambda connection: words.release(connection, found, now_ms))
