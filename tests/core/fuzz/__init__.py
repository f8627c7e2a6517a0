"""Fuzzing of every reader that meets bytes from outside; see `targets`."""
