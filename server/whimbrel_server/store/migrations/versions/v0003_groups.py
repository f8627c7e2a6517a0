"""Roll-ups and peers of a version, alerts that stand under others, policies of detectors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables and add the columns."""
    op.create_table(
        "rollups",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("feature", sa.String(length=256), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "feature"),
    )
    op.create_table(
        "peers",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "start_ms"),
    )
    # An empty policy is none that any device follows now: its history is judged again.
    op.add_column(
        "detectors",
        sa.Column("policy", sa.String(length=200), nullable=False, server_default=""),
    )
    for name, length in (("scope", 200), ("under", 400)):
        op.add_column(
            "alerts",
            sa.Column(name, sa.String(length=length), nullable=False, server_default=""),
        )
