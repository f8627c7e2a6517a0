"""Whimbrel for the fleet: drift, alerts, staged rollouts, audit, dashboard."""

__version__ = "0.1.0"
