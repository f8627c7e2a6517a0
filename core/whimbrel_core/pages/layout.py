"""The layout of a page: head, sections with their titles in the margin, tables, facts, badges."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import whimbrel_core
from whimbrel_core.drawing import theme
from whimbrel_core.pages.element import Child, Html, join, maybe, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A page may not load or run anything, wherever it is opened.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_MARK = (  # as on the dashboard
    '<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" '
    'fill="#0a6570"/><path d="M5 21c2-6 6-10 12-10 1-2.6 3-3.8 5-3.8 2.3 0 3.9 1.3 4.4 3.3 1.9 1.6 '
    "3.2 4.5 3.3 8.5-1.1-3-2.7-4.9-4.7-5.6-.9 6-5 9.6-10.5 9.6H9.5C7.5 23 6 22.3 5 21z"
    '" fill="#f6f5f1"/><circle cx="22.6" cy="10.6" r="1.1" fill="#0a6570"/><path d="M14 23v5M18 '
    '22.5v5" stroke="#f6f5f1" stroke-width="1.3" stroke-linecap="round"/></svg>'
)


class Section(NamedTuple):
    """A section of a page; one without a body is left out.

    Attributes:
        id: for links.
        title: in the margin.
        lead: what it is, in a sentence or two, below the title.
        body: everything else.
    """

    id: str
    title: str
    lead: Child
    body: Sequence[Child]


class Column(NamedTuple):
    """A column of a table: its name, and whether it holds numbers."""

    name: str
    number: bool = False


def document(
    title: str, kind: str, head: Child, sections: Iterable[Section | None], foot: Child
) -> str:
    """Return the whole page.

    Args:
        title: of the browser's tab.
        kind: what the page is, e.g. "Model report".
        head: content of the first part.
        sections: those that are None or have no body are left out.
        foot: the last sentences.
    """
    shown = [one for one in sections if one is not None and any(map(join, one.body))]
    style = resources.files("whimbrel_core.pages").joinpath("page.css").read_text("utf-8")
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="generator", content=f"whimbrel {whimbrel_core.__version__}"),
            tag("title", title),
            tag("style", Html(theme.stylesheet() + style)),
        ),
        tag(
            "body",
            tag(
                "header", tag("p", Html(_MARK), "Whimbrel", tag("span", kind), class_="kind"), head
            ),
            tag(
                "nav",
                tag("ul", (tag("li", tag("a", s.title, href=f"#{s.id}")) for s in shown)),
                aria_label="Sections",
            ),
            tag("main", (_section(one) for one in shown)),
            tag("footer", foot),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _section(one: Section) -> Html:
    return tag(
        "section",
        tag("div", tag("h2", one.title), maybe(one.lead, tag("p", one.lead)), class_="margin"),
        tag("div", *one.body, class_="body"),
        id=one.id,
    )


def table(
    columns: Sequence[Column | str], rows: Iterable[Sequence[Child]], *, style: str = ""
) -> Html | None:
    """Return a table, or None without rows; the first cell of a row is its head."""
    named = [Column(one) if isinstance(one, str) else one for one in columns]
    lines = [
        tag(
            "tr",
            (
                tag(
                    "th" if i == 0 else "td",
                    cell,
                    scope="row" if i == 0 else None,
                    class_="n" if column.number else None,
                    data_label=column.name if i else None,
                )
                for i, (column, cell) in enumerate(zip(named, row, strict=True))
            ),
        )
        for row in rows
    ]
    if not lines:
        return None
    head = tag(
        "tr", (tag("th", c.name, scope="col", class_="n" if c.number else None) for c in named)
    )
    return tag(
        "div",
        tag("table", tag("thead", head), tag("tbody", lines), class_=style),
        class_="scroll",
        tabindex="0",
    )


def facts(pairs: Iterable[tuple[str, Child]]) -> Html | None:
    """Return names with values; pairs without a value are left out, and None is none at all."""
    shown = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if join(value)]
    return tag("dl", shown, class_="facts") if shown else None


def tiles(items: Iterable[tuple[str, Child, Child]]) -> Html | None:
    """Return the figures that count: (name, value, note)."""
    shown = [
        tag(
            "div",
            tag("dt", name),
            tag("dd", value, class_="value"),
            maybe(join(note), tag("dd", note, class_="note")),
        )
        for name, value, note in items
    ]
    return tag("dl", shown, class_="tiles") if shown else None


def badge(text: Child, tone: str) -> Html:
    """Return a state: a colour, a shape and a word."""
    return tag("span", tag("i"), text, class_=f"badge {tone}")


def code(text: str) -> Html | None:
    """Return a digest, path or name in type of equal width; None for nothing."""
    return tag("code", text) if text else None


def folded(summary: str, *children: Child) -> Html | None:
    """Return what only few want to read, behind a line; on paper it is unfolded."""
    inside = join(children)
    return tag("details", tag("summary", summary), inside) if inside else None


def drawing(svg: str, style: str = "solo") -> Html | None:
    """Return a drawing of `whimbrel_core.drawing`, which has escaped whatever is in it."""
    return tag("div", Html(svg), class_=style) if svg else None


def figure(caption: Child, svg: str, *notes: Child, style: str = "solo") -> Html | None:
    """Return a drawing under its caption; None when nothing was drawn."""
    if not svg:
        return None
    return tag("figure", tag("figcaption", caption), drawing(svg, style), *notes)
