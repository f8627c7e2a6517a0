"""In a notebook: profiles and reports show themselves, and leave everything around them alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.packager.profiles.tables import month
from tests.support.browser import Page, chromium
from tests.support.page import CONTRAST, Reader
from whimbrel_core.pages import notebook
from whimbrel_packager import profiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = """<!doctype html><html lang="en"><meta charset="utf-8"><title>n</title><style>html {{ overflow-y: scroll; }}</style>
<body data-jp-theme-light="{light}" style="background: {ground}">
<div id="host"><p class="ok badge">text</p><table class="dataframe"><tr><th>a</th><td class="n">1</td></tr>
</table><ul class="legend"><li>x</li></ul><svg><text class="tick">t</text><rect class="reference"/></svg>
<figure><figcaption>c</figcaption></figure><h2>h</h2><a href="#">l</a></div>
{part}</body></html>"""
STYLES = """JSON.stringify([...document.querySelectorAll('#host, #host *')].map((e) => {
  const s = getComputedStyle(e); return [...s].map((name) => [name, s.getPropertyValue(name)]); }))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all that look."""
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def test_a_cell_that_logs_and_compares_shows_tables(tmp_path: Path) -> None:
    cell = (
        "import numpy as np, pandas as pd\n"
        "from whimbrel_packager import profiles\n"
        "a = profiles.log(pd.DataFrame({'x': np.arange(500.0)}), name='usual')\n"
        "b = a.compare(pd.DataFrame({'x': np.arange(500.0) + 200}))\n"
        "c = a.counts.baseline\n"
        "print(repr(a)); print(repr(b))\n"
        "from pathlib import Path\n"
        "for one in (a, b, c): Path(f'{type(one).__name__}.html').write_text(one._repr_html_())\n"
    )
    # What a worker of an earlier test told numpy to leave out is no business of a notebook.
    env = {name: value for name, value in os.environ.items() if not name.startswith("NPY_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", cell],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "<Profile 'usual': 500 rows, 1 features: x>" in done.stdout
    assert "severe, 1 of 1 features: x" in done.stdout
    for name in ("Profile", "DriftReport", "Baseline"):
        seen = Reader((tmp_path / f"{name}.html").read_text())
        assert "x" in seen.text
        assert "table" in seen.tags
        assert not {"script", "link", "img", "iframe"} & set(seen.tags)
        assert "id" not in {key for key, _ in seen.attributes}, "ids belong to the notebook"


def test_every_rule_is_confined_to_the_part() -> None:
    style = profiles.log(month())._repr_html_().partition("<style>")[2].partition("</style>")[0]
    assert ":root" not in style
    assert "url(" not in style
    depth, start = 0, 0
    for i, char in enumerate(style):
        if char == "{":
            selectors = style[start:i].strip()
            if not selectors.startswith("@media"):
                for one in selectors.split(","):
                    assert f".{notebook.SCOPE}" in one or "(" in selectors, one
            depth, start = depth + 1, i + 1
        elif char == "}":
            depth, start = depth - 1, i + 1
    assert depth == 0


@pytest.mark.needs("chromium")
def test_a_browser_shows_it_in_either_theme_and_the_notebook_stays_as_it_was(
    page: Page, tmp_path: Path
) -> None:
    a = profiles.log(month(), name="january")
    part = a._repr_html_() + a.compare(month(moved=True))._repr_html_()
    page.call("Emulation.setEmulatedMedia", media="")
    page.call("Emulation.clearDeviceMetricsOverride")
    for light, ground, scheme in (("true", "#fff", "dark"), ("false", "#111", "light")):
        styles = []
        for shown in ("", part):
            path = tmp_path / "n.html"
            path.write_text(HOST.format(light=light, ground=ground, part=shown))
            page.call("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
            page.open(path.as_uri())
            styles.append(page.value(STYLES))
        assert styles[0] == styles[1], "what is around it looks the same"
        surface = page.value(
            "getComputedStyle(document.querySelector('.whimbrel')).backgroundColor"
        )
        # The notebook's theme counts, not what the reader prefers elsewhere.
        assert surface == ("rgb(255, 254, 252)" if light == "true" else "rgb(23, 31, 34)")
        own = CONTRAST.replace("if (!e.inner", "if (!e.closest('.whimbrel') || !e.inner")
        assert page.value(own) == []
    assert page.complaints == []


@pytest.mark.needs("chromium")
def test_a_browser_shows_the_report_at_any_width_without_complaint(
    page: Page, tmp_path: Path
) -> None:
    usual, moved = month(), month(moved=True)
    usual[f"a name of many {'letters' * 8}"] = 1.0
    report = profiles.compare(usual, moved)
    out = tmp_path / "r.html"
    out.write_text(report.html())
    page.call("Emulation.setEmulatedMedia", media="")
    for width in (360, 800, 1360):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        page.open(out.as_uri())
        assert page.value("document.documentElement.scrollWidth") <= width
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
        page.open(out.as_uri())
        assert page.value(CONTRAST) == [], scheme
    # By keyboard: everything that scrolls or folds can be reached.
    assert page.value(
        "[...document.querySelectorAll('.scroll, .chart')].every((e) => e.tabIndex === 0)"
    )
    assert page.value("document.querySelectorAll('details summary').length") >= 1
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.complaints == []
    assert {r for r in page.requests if not r.startswith(("about:", "file:"))} == set()
