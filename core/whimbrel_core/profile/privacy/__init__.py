"""What of a window may leave its device: noise on counts, and sealed words."""
