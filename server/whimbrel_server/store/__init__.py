"""What the fleet server keeps: one SQLite database with one writer."""
