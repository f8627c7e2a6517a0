"""Verdicts made again from what is stored, each kind of rule in a file of its own."""
