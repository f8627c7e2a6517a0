"""Loading slots before anything is accepted: verified, run once, measured, or named as the cause."""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from whimbrel_agent.channel import LoadFailed, SlotReady
from whimbrel_agent.serving import engine as engines
from whimbrel_core.errors import WhimbrelError

if TYPE_CHECKING:
    from whimbrel_agent.channel import SlotSpec
    from whimbrel_agent.marks import Marks


class LoadError(Exception):
    """A slot cannot be served."""

    def __init__(self, spec: SlotSpec, code: str, message: str) -> None:
        super().__init__(message)
        self.failed = LoadFailed(spec.slot, spec.digest, code, message)


class LoadedSlot(NamedTuple):
    """A slot whose model is in memory and has run."""

    spec: SlotSpec
    engine: engines.Engine
    calibration: engines.Calibration
    load_ms: float

    @property
    def ready(self) -> SlotReady:
        """What control is told of it."""
        manifest = self.engine.manifest
        return SlotReady(
            slot=self.spec.slot,
            digest=self.engine.digest,
            name=manifest.name,
            version=manifest.version,
            release=manifest.release,
            load_ms=self.load_ms,
            first_run_us=self.calibration.first_us,
        )


def load_slot(spec: SlotSpec, marks: Marks, place: int) -> LoadedSlot:
    """Verify and load the bundle of ``spec``, and run it; ``marks[place]`` is set meanwhile.

    Raises:
        LoadError: it cannot be served, and why.
    """
    started = time.perf_counter()
    marks[place] = 1
    try:
        engine = engines.load(Path(spec.path), spec.keys, digest=spec.digest or None)
        engine.mark(marks, place)
        calibration = engine.calibrate()
    except WhimbrelError as error:
        raise LoadError(spec, error.code, error.message) from error
    finally:
        marks[place] = 0
    return LoadedSlot(spec, engine, calibration, (time.perf_counter() - started) * 1e3)


def give_back_memory() -> None:
    """Return what loading needed, and keep the collector off what stays."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc only
        trim(0)
