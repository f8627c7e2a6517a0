"""The clients of `tests.server.clients`, for the tests of this folder."""

from __future__ import annotations

from tests.server.clients import apps, client, closed, fleet, new_server, repository

__all__ = ["apps", "client", "closed", "fleet", "new_server", "repository"]
