"""Whimbrel on the device: verify, serve offline, profile, report, update safely."""

__version__ = "0.1.0"
