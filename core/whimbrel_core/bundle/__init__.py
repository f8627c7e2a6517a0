"""The bundle ``<name>-<version>.whim``: format version 1."""
