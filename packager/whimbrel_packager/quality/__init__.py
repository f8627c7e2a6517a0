"""Figures of quality, and how sure they are."""
