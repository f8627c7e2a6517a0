"""Which slot's model is running right now: one byte a slot, in memory that outlives the worker.

A model that crashes native code takes its whole process away, and with it every word about who
it was. So control gives each worker a few bytes of shared memory. The worker sets a slot's byte
while that slot's model is loaded or runs, and clears it afterwards; when the worker has crashed,
control reads who was at it. Setting and clearing costs less than a tenth of a microsecond.
"""

from __future__ import annotations

import mmap
import os

# A byte for each slot of a worker; devices have a handful.
_BYTES = mmap.PAGESIZE

Marks = mmap.mmap | bytearray


class SharedMarks:
    """Control's end: made for one worker, read when it has ended.

    Where the system has no anonymous files (`descriptor` is -1) nobody is ever named.
    """

    def __init__(self) -> None:
        self.descriptor = -1
        self._bytes: Marks = bytearray(_BYTES)
        try:
            self.descriptor = os.memfd_create("whimbrel-marks")
            os.ftruncate(self.descriptor, _BYTES)
            self._bytes = mmap.mmap(self.descriptor, _BYTES)
        except (AttributeError, OSError):
            self.close_descriptor()

    def close_descriptor(self) -> None:
        """Close our copy of the file; once the worker has inherited it, the memory is enough."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def marked(self, slots: int) -> tuple[int, ...]:
        """Return which of the first ``slots`` places are set."""
        return tuple(place for place in range(min(slots, _BYTES)) if self._bytes[place])

    def close(self) -> None:
        """Give the memory back."""
        self.close_descriptor()
        if isinstance(self._bytes, mmap.mmap):
            self._bytes.close()


def inherited(descriptor: int) -> Marks:
    """Return the worker's end of control's marks; plain memory when there is no descriptor."""
    if descriptor < 0:
        return bytearray(_BYTES)
    try:
        return mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)
