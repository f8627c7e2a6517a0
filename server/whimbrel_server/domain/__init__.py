"""Decisions of the fleet server: pure, values in and values out; time is a parameter."""
