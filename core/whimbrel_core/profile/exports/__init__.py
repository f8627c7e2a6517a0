"""Profiles in other tools' formats: InfluxDB line protocol, Prometheus text, and tables.

Pure: profiles in, text or columns out. What a format cannot hold is left out or escaped by its
specification, never guessed.
"""
