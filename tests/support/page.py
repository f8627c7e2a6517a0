"""What a browser makes of a page that is a file: its elements, its text, its contrasts."""

from __future__ import annotations

from html.parser import HTMLParser


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.titles: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


def too_faint(selected: str) -> str:
    """Return JavaScript for the list of texts with less contrast than WCAG asks for (4.5).

    Args:
        selected: CSS selector of the elements to look at.
    """
    return _CONTRAST.replace("SELECTED", selected)


_CONTRAST = """(() => {
  const numbers = (c) => { const k = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    k.fillStyle = c; k.fillRect(0, 0, 1, 1); return [...k.getImageData(0, 0, 1, 1).data]; };
  const luminance = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll('SELECTED')) {
    if (!e.innerText?.trim() || !e.checkVisibility()) continue;
    const [a, b] = [numbers(getComputedStyle(e).color), behind(e)].map(luminance);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${e.tagName} ${e.className} ${e.innerText.slice(0, 30)}`);
  }
  return bad; })()"""

CONTRAST = too_faint("p, a, th, td, dt, dd, .badge, .of, small, li, h1 span, code")
"""Of a page that is a file."""
