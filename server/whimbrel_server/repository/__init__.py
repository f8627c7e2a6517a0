"""The bundle repository: a directory of TUF metadata and targets, as the publisher made it.

The publisher's offline keys sign root and targets; the server reads and verifies them like a
device (`chain`, `released`), and signs snapshot and timestamp when it was given their keys
(`online`, `keys`).
"""

from whimbrel_server.repository.released import Contents, Published, Repository

__all__ = ["Contents", "Published", "Repository"]
