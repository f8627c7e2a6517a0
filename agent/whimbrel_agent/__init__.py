"""Whimbrel on the device: verify, serve offline, profile, report, update safely."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel_agent.model import Model

__all__ = ["Model", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `Model` when it is asked for: control must not pay for numpy and onnxruntime."""
    if name == "Model":
        from whimbrel_agent.model import Model

        return Model
    raise AttributeError(name)
