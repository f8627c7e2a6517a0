"""What the agent refuses on its admin socket is the same error for who asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from whimbrel_agent.control.admin import Admin, Request, ask
from whimbrel_core.errors import InputError, UnavailableError, UsageError, WhimbrelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "error",
    [
        InputError("no such digest", hint="see status", code="quarantine.unknown"),
        UnavailableError("no repository", code="repository.unavailable"),
        WhimbrelError("a fault"),
    ],
    ids=["input", "unavailable", "fault"],
)
def test_an_error_keeps_its_kind_code_hint_and_exit_code(
    tmp_path: Path, error: WhimbrelError
) -> None:
    async def refuse(_request: Request) -> object:
        raise error

    async def story() -> WhimbrelError:
        admin = Admin(tmp_path / "admin.sock", {"sync": refuse})
        await admin.start()
        try:
            with pytest.raises(WhimbrelError) as caught:
                await asyncio.to_thread(ask, tmp_path / "admin.sock", Request("sync"))
            with pytest.raises(UsageError, match="does not know 'dance'"):
                await asyncio.to_thread(ask, tmp_path / "admin.sock", Request("dance"))
        finally:
            await admin.stop()
        return caught.value

    got = asyncio.run(story())
    assert type(got) is type(error)
    assert (got.message, got.hint, got.code) == (error.message, error.hint, error.code)
    assert got.exit_code == error.exit_code
