"""Whimbrel on the build machine: convert, prove, profile, sign, publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whimbrel_packager.build import PackResult, check, pack

__version__ = "0.1.0"
__all__ = ["PackResult", "__version__", "check", "pack"]


def __getattr__(name: str) -> object:
    """Import `pack` when it is first asked for: child processes and commands start without it."""
    if name in {"pack", "check", "PackResult"}:
        from whimbrel_packager import build

        return getattr(build, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
