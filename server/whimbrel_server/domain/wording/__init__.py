"""Verdicts in words, for whoever is woken by them: short, and no more than is known.

What was found, since when, where, what else changed, what it costs, what this cannot see. Times
are UTC.
"""
