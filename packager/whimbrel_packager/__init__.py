"""Whimbrel on the build machine: convert, prove, profile, sign, publish."""

__version__ = "0.1.0"
