"""Runs migrations over the connection that the server hands in; there is no offline mode."""

from __future__ import annotations

from alembic import context

from whimbrel_server.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
