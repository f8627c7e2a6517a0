"""Finds the case files, and tells those whose framework is not installed here."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.packager.corpus.case import Case

_OWN = ("tests", "whimbrel_")
_ENDING = "_cases"


class Source(NamedTuple):
    """A case file.

    Args:
        name: of the source, for people.
        cases: its cases by name.
        ask: returns the model's own answers to rows: {"label": …, "probabilities": …} or
            {"value": …} or {"label": …, "score": …}, called with ``Given.asked`` (or the model)
            and a table or array like ``Given.data``. It uses the framework alone, nothing of the
            packager. ValueError and TypeError: the model does not accept these rows.
    """

    name: str
    cases: Mapping[str, Case]
    ask: Callable[[Any, Any], dict[str, Any]]


@functools.cache
def sources() -> tuple[dict[str, Source], dict[str, str]]:
    """Return the sources installed here by file name, and for the others what is missing."""
    found: dict[str, Source] = {}
    missing: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob(f"*{_ENDING}.py")):
        key = path.stem.removesuffix(_ENDING)
        try:
            module = importlib.import_module(f"{__package__}.{path.stem}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith(_OWN):
                raise
            missing[key] = f"{error.name} is not installed in this environment"
            continue
        cases = {case.name: case for case in module.CASES}
        if len(cases) != len(module.CASES):
            raise ValueError(f"{path.name}: two cases have one name")
        found[key] = Source(module.SOURCE, cases, module.ask)
    return found, missing
