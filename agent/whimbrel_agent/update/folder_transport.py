"""A repository in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from whimbrel_agent.update.transport import CHUNK, NotInRepositoryError
from whimbrel_core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


class FolderTransport:
    """A repository in a folder: a USB stick, a network mount."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of ``path`` from ``offset`` on; see `Transport`."""
        parts = path.split("/")
        if any(part in {"", ".", ".."} for part in parts):
            msg = f"repository path {path!r} is not a plain relative path"
            raise InputError(msg, code="repository.path")
        try:
            with self._folder.joinpath(*parts).open("rb") as file:
                file.seek(offset)
                while piece := file.read(CHUNK):
                    yield piece
        except FileNotFoundError as error:
            if not self._folder.is_dir():
                msg = f"repository folder {self._folder} is not there"
                raise UnavailableError(
                    msg, code="repository.unavailable", hint="is the medium mounted?"
                ) from error
            msg = f"repository {self._folder} has no {path}"
            raise NotInRepositoryError(msg) from error
        except OSError as error:
            msg = f"{path} in {self._folder} cannot be read: {error}"
            raise UnavailableError(msg, code="repository.unavailable") from error
