"""How handlers ask for the fleet: the application's one `FleetPort`, as it is."""

from __future__ import annotations

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from whimbrel_server.port import FleetPort

# A protocol cannot be checked at run time, and nobody but `create_app` provides it.
Fleet = NamedDependency[SkipValidation[FleetPort]]
