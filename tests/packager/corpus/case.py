"""A case of the corpus, and what was seen of it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from whimbrel_packager.conversion.child import Limits

WITHIN, REFUSED = "within tolerance", "refused"


class Given(NamedTuple):
    """What is packed.

    Args:
        model: anything that `whimbrel_packager.pack` takes as a model.
        data: reference rows, as `pack` takes them: a DataFrame, an array, a mapping of columns.
        options: keys of `whimbrel_packager.sources.Options`.
        asked: what ``ask`` of the case file is given for the model; None: the model itself.
    """

    model: object
    data: Any
    options: Mapping[str, object] = MappingProxyType({})
    asked: object = None


class Case(NamedTuple):
    """A model, and how packing it has to end.

    Args:
        name: of the case, for people; stays, since rows of the page go by it.
        make: returns a fitted model with its data, from small seeded data; it may write files
            into the folder it is given.
        refused: code of the error it has to end in; "": within tolerance.
        says: what the error's message has to contain.
        rewrites: names of the rewrites that were needed, exactly.
        isolated: run it in real child processes, since it hangs or crashes.
        limits: of those children.
        loose: how many times the tolerance its own fresh rows may be off, where there is a reason.
    """

    name: str
    make: Callable[[Path], Given]
    refused: str = ""
    says: str = ""
    rewrites: tuple[str, ...] = ()
    isolated: bool = False
    limits: Limits | None = None
    loose: float = 1.0


class Seen(NamedTuple):
    """How it ended.

    Args:
        outcome: `WITHIN` or `REFUSED`.
        model: the estimator as the packager names it, "" when it did not come that far.
        rewrites: those that were applied after the plain conversion had failed.
        code, message, hint: of the error.
        share: the largest error as a share of what is allowed, 0 to 1.
        rows: of the proof.
        fresh_rows: rows that the corpus did not contain, on which it was checked once more.
        disagreement: "" or what those rows showed: a silently wrong conversion.
    """

    outcome: str
    model: str = ""
    rewrites: tuple[str, ...] = ()
    code: str = ""
    message: str = ""
    hint: str = ""
    share: float = 0.0
    rows: int = 0
    fresh_rows: int = 0
    disagreement: str = ""
