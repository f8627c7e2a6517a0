"""The worker: one process that answers inference requests."""
