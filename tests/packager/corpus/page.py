"""The page of the corpus: docs/reference/conversions.md, one section per source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.packager.corpus.case import WITHIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.packager.corpus.case import Seen

PATH = Path(__file__).resolve().parents[3] / "docs/reference/conversions.md"
NOTICE = "<!-- Written by `make docs`; do not edit. -->\n\n"
_HEAD = (
    f"{NOTICE}# Conversions\n\n"
    "Models of every source that `whimbrel pack` converts and proves in the tests, small ones made\n"
    "for what goes wrong. Each ends *within tolerance* of its source on the whole adversarial\n"
    "corpus, and on fresh rows that the corpus does not contain; or *refused*, with the code of the\n"
    "error and the reason. There is no third outcome. Where the plain conversion fails and a known\n"
    "rewrite of it holds, the rewrite is named. *Of the tolerance* is the largest error as a share\n"
    "of what is allowed (1e-4 of the number, and 1e-5 of the output's spread), over all rows, on\n"
    "the machine that wrote the page.\n"
)
_TABLE = (
    "| model | outcome | rewrite, or reason | of the tolerance | rows |\n|---|---|---|--:|--:|\n"
)
_MAX_REASON = 160


def row(name: str, seen: Seen) -> str:
    """Return the row of one case."""
    if seen.outcome == WITHIN:
        how = ", ".join(seen.rewrites)
        figures = f"{seen.share:.1%} | {seen.rows + seen.fresh_rows:,}"
        return f"| {_cell(name)} | {outcome(seen)} | {_cell(how)} | {figures} |\n"
    reason = " ".join(seen.message.split())
    if len(reason) > _MAX_REASON:
        reason = reason[:_MAX_REASON].rsplit(" ", 1)[0] + " …"
    return f"| {_cell(name)} | {outcome(seen)} | {_cell(reason)} | | |\n"


def outcome(seen: Seen) -> str:
    """Return what the page says of an outcome."""
    return seen.outcome if seen.outcome == WITHIN else f"{seen.outcome}: `{seen.code}`"


def section(title: str, rows: Mapping[str, Seen]) -> str:
    """Return the section of one source."""
    held = sum(seen.outcome == WITHIN for seen in rows.values())
    counts = f"{len(rows)} models: {held} within tolerance, {len(rows) - held} refused.\n\n"
    return f"## {title}\n\n{counts}{_TABLE}" + "".join(row(n, s) for n, s in rows.items())


def merge(text: str, sections: Mapping[str, str]) -> str:
    """Return the page with some sections written anew; the others stay as they are.

    >>> page = merge("", {"b": "## b\\n\\n1\\n", "a": "## a\\n\\n2\\n"})
    >>> merge(page, {"a": "## a\\n\\n3\\n"}).removeprefix(_HEAD)
    '\\n## a\\n\\n3\\n\\n## b\\n\\n1\\n'
    """
    held = {
        title: f"## {title}\n\n{body.strip()}\n"
        for title, body in re.findall(r"^## (.+)\n\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    }
    held.update(sections)
    ordered = sorted(held.items(), key=lambda item: item[0].lower())
    return _HEAD + "".join(f"\n{body}" for _, body in ordered)


def rows_of(text: str, title: str) -> dict[str, str]:
    """Return what a page says of one source: outcome by model."""
    _, _, rest = text.partition(f"\n## {title}\n")
    body = rest.partition("\n## ")[0]
    cells = [re.split(r"(?<!\\)\|", line) for line in body.splitlines() if line.startswith("| ")]
    return {
        c[1].strip().replace("\\|", "|"): c[2].strip() for c in cells if c[1].strip() != "model"
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def require_row(source: str, name: str, seen: Seen) -> None:
    """Require that the committed page says of a case what was seen."""
    assert rows_of(PATH.read_text(), source).get(name) == outcome(seen), "make docs"
