"""Which segments of the journal hold windows of which device."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table. Segments from before are in the aggregates, and not in it."""
    op.create_table(
        "journal",
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "segment"),
    )
