"""A fleet in memory: `FleetPort` without database or broker, seeded and deterministic.

Four devices, three versions of one model, ten months of daily windows with a seasonal drift, a
finished rollout and one whose gate stopped it. ``FakeFleet(empty=True)`` is a new server.
"""
