"""New words of categories: what devices told sealed, and what could be read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "sightings",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("feature", sa.String(length=256), nullable=False),
        sa.Column("tag", sa.String(length=16), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "feature", "tag", "device"),
    )
    op.create_table(
        "words",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("feature", sa.String(length=256), nullable=False),
        sa.Column("tag", sa.String(length=16), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("released_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "feature", "tag"),
    )
