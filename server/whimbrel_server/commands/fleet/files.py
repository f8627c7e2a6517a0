"""Files that commands write: there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from whimbrel_core.errors import StorageError, UsageError


def write(path: Path, content: bytes) -> None:
    """Write ``content``; an older file stays in place until the new one is complete.

    Raises:
        UsageError: the path is a folder.
        StorageError: it cannot be written; what was there is as it was.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; nothing was written", hint="name a file in it")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(content)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(
            f"{path} could not be written: {error.strerror}; it is as it was before",
            hint="choose another place, or make room",
        ) from error
