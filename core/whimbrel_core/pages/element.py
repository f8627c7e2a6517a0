"""Elements of HTML: whatever is not markup already is escaped where it becomes a child.

>>> str(tag("p", "a < b ", tag("b", "c"), class_="note", title='"'))
'<p class="note" title="&quot;">a &lt; b <b>c</b></p>'
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable


class Html(str):
    """Text that is markup, and safe as it is: made by `tag`, or drawn by `whimbrel_core.drawing`."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"

_VOID = frozenset({"br", "col", "hr", "meta"})


def tag(name: str, /, *children: Child, **attributes: str | int | None) -> Html:
    """Return an element; children that are None, and attributes that are None or "", are left out.

    ``class_`` is the attribute ``class``, and underscores within a name are hyphens.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value not in {None, ""}
    )
    if name in _VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Return children one after the other."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str | int):
        return Html(escape(str(children)))
    return Html("".join(join(child) for child in children))


def maybe(condition: object, child: Child) -> Child:
    """Return the child if the condition holds, else nothing."""
    return child if condition else None
