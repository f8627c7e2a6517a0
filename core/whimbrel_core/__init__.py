"""The common language of Whimbrel: bundles, signatures, profiles and wire messages."""

__version__ = "0.1.0"
