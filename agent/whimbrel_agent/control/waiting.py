"""Waiting with a time limit, without losing a cancellation.

`asyncio.wait_for` of Python 3.10 and 3.11 returns its result, and forgets that it was cancelled,
when both happen in one turn of the loop: a task that waits for an event in an endless loop then
outlives the agent's end. `within` keeps the cancellation.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def within(awaitable: Awaitable[T], timeout_s: float | None) -> T:
    """Return what ``awaitable`` gives, or raise `asyncio.TimeoutError` and cancel it.

    Args:
        awaitable: a coroutine or future.
        timeout_s: None waits without a limit.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
