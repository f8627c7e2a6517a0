"""The stylesheet of drawings: colours as variables for light and dark, tones, and marks.

A page puts it before its own rules. Print is always light. In a notebook, where the page is
somebody else's, `within` confines rules to one element: nothing outside of it is touched.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources

_DARK = "screen and (prefers-color-scheme: dark)"
# How notebooks say which theme they are in: JupyterLab, VS Code, Colab, and pages of documentation.
_HOSTS = {
    "light": ('body[data-jp-theme-light="true"]', "body.vscode-light", 'html[theme="light"]',
              'html[data-theme="light"]'),
    "dark": ('body[data-jp-theme-light="false"]', "body.vscode-dark", 'html[theme="dark"]',
             'html[data-theme="dark"]'),
}  # fmt: skip
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """Return the rules as CSS text."""
    return (
        resources.files("whimbrel_core.drawing").joinpath("drawing.css").read_text(encoding="utf-8")
    )


def within(scope: str, css: str) -> str:
    """Return rules that hold inside of the elements ``scope`` alone.

    ``:root`` becomes the scope itself, so variables are set there. What is dark by the reader's
    preference also follows what the notebook around it says of its own theme.

    Args:
        scope: a selector, for example ``.whimbrel``.
        css: rules, and rules in media queries; other at-rules are left out.

    >>> within(".w", ":root { --a: 1; } p, td b { color: red; }")
    '.w{--a: 1;}.w p,.w td b{color: red;}'
    """
    out: list[str] = []
    by_theme: dict[str, list[str]] = {"light": [], "dark": []}
    for media, block in _blocks(_COMMENT.sub("", css)):
        rules = [(_parted(selectors), body.strip()) for selectors, body in _RULE.findall(block)]
        plain = "".join(
            f"{','.join(_inside(scope, one) for one in selectors)}{{{body}}}"
            for selectors, body in rules
        )
        out.append(f"@media {media}{{{plain}}}" if media else plain)
        for selectors, body in rules:
            if selectors == [":root"] and media in {"", _DARK}:
                by_theme["dark" if media else "light"].append(body)
    for theme, bodies in by_theme.items():
        # Where there is a dark variant the host decides, whatever the reader prefers elsewhere.
        if bodies and by_theme["dark"]:
            chosen = ",".join(f"{host} {scope}" for host in _HOSTS[theme])
            out.append(f"@media screen{{{chosen}{{{''.join(bodies)}}}}}")
    return "".join(out)


def _blocks(css: str) -> list[tuple[str, str]]:
    """Return (media query, rules) in order; "" is no query."""
    found: list[tuple[str, str]] = []
    at = 0
    for match in re.finditer(r"@([a-z-]+)([^{]*)\{", css):
        if match.start() < at:
            continue
        found.append(("", css[at : match.start()]))
        depth, end = 1, match.end()
        while depth and end < len(css):
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        if match[1] == "media":
            found.append((match[2].strip(), css[match.end() : end - 1]))
        at = end
    found.append(("", css[at:]))
    return found


def _parted(selectors: str) -> list[str]:
    """Part selectors at commas that are in no bracket."""
    return [one.strip() for one in re.split(r",(?![^()]*\))", selectors)]


def _inside(scope: str, selector: str) -> str:
    return scope if selector in {":root", "html", "body"} else f"{scope} {selector}"
