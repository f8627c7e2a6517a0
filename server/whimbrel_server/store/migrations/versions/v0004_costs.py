"""What a drift is expected to cost, beside its alert."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("alerts", sa.Column("loss", sa.LargeBinary(), nullable=True))
