from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from tests.packager.command import whimbrel
from whimbrel_core.bundle import bundle as bundles
from whimbrel_core.bundle.archive import Archive
from whimbrel_packager.record import card

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packager.conftest import Packed
    from tests.packager.record.conftest import Project

RENDERER = MarkdownIt("commonmark").enable("table")


def written(bundle: Path) -> str:
    return Archive(io.BytesIO(bundle.read_bytes())).read(bundles.CARD).decode()


def rendered(bundle: Path) -> str:
    return str(RENDERER.render(written(bundle)))


def test_a_card_shows_what_a_person_said_and_what_was_measured(project: Project) -> None:
    page = rendered(project.bundle)
    assert re.findall("<h2>(.*)</h2>", page) == [
        "Model details", "Intended use", "Data", "Metrics", "Limitations",
        "Ethical considerations", "Proof of conversion", "Lineage", "References",
    ]  # fmt: skip
    assert "<p>Whether a flight leaves | late.</p>" in page
    assert "<li>Has seen no winter storms like &lt;2015&gt;.</li>" in page
    assert "<td>temp</td>\n<td>numeric</td>\n<td>degF</td>" in page
    assert "<td>cv_auc</td>\n<td>0.71</td>" in page
    assert "Small airlines are rare in the data. — <em>nothing is done about it</em>" in page
    assert "<code>0123456789012345678901234567890123456789</code>" in page
    assert "<td>quality.auc</td>" in page


def test_a_card_says_what_nobody_has_said(packed: Packed) -> None:
    page = rendered(packed.bundle)
    for silence in (
        "<em>No description was given.</em>",
        "<strong>Licence:</strong> <em>not stated</em>",
        "<em>Not stated.</em>",
        "Training data: <em>not described</em>",
        "<em>None were stated.</em>",
    ):
        assert silence in page
    assert "References" not in page


def test_every_row_of_a_cards_tables_has_as_many_cells_as_its_head(project: Project) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", written(project.bundle), re.MULTILINE)
    assert len(tables) >= 5
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize(
    "text",
    ["a | b", "*stars* and _lines_", "snake_case", "<b>bold</b>", "[link](x)", "`code`", "# head",
     "back\\slash", "two\nlines", "~~gone~~"],
)  # fmt: skip
def test_what_a_person_wrote_is_shown_as_it_was_written(text: str) -> None:
    shown = RENDERER.renderInline(card._text(text))
    assert "<" not in shown.replace("&lt;", "")
    plain = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"')
    assert plain == text.replace("\n", " ")


def test_inspect_shows_the_record_in_sections_on_lines_that_fit(project: Project) -> None:
    out = whimbrel("inspect", project.bundle).out
    titles = [line for line in out.splitlines()[2:] if not line.startswith(" ")]
    assert titles == ["model", "quality", "proof", "lineage", "watch", "files"]
    assert max(map(len, out.splitlines())) <= 110
    squeezed = re.sub(r"\s+", " ", out)
    for said in (
        "gitCommit 0123456789012345678901234567890123456789",
        "run ci https://ci.example/1",
        "seeds fold = 3, logisticregression__random_state = 11, split = 7",
        "training columns = 3, rounds = 1",
        "data: raw flights https://lake.example/flights?v=7, md5 a304afb9",
        "gate quality.auc holds",
    ):
        assert said in squeezed
    assert "secret" not in out
