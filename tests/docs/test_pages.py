"""What the documentation says, runs."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from tests.support import documents

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in str(path.relative_to(ROOT))
)


# Programs beside Python and a shell that a page may call, where the machine has them.
PROGRAMS = ("curl", "git", "mosquitto", "softhsm2-util")


def needs(page: Path) -> tuple[str, ...]:
    """Return the programs that the marked blocks of a page call."""
    text = "\n".join(block.body for block in documents.runnable(page.read_text()))
    return tuple(name for name in PROGRAMS if f"$ {name} " in text)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=pytest.mark.needs(*needs(page)))
        for page in dict.fromkeys(PAGES)
    ],
)
def test_the_blocks_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    documents.run(page, tmp_path)


@pytest.mark.parametrize("page", dict.fromkeys(PAGES), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r'(?:\]\(|srcset="|src=")([^)"#\s]+)', text)
    broken = [
        link
        for link in links
        if not link.startswith(("http:", "https:")) and not (page.parent / link).exists()
    ]
    assert not broken


def write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_a_page_runs_from_top_to_bottom_in_one_folder(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        "```python save=make.py\nopen('note', 'w').write('made')\n```\n"
        "```console run\n$ python make.py\n```\n"
        "```console\n$ this is not marked\n```\n"
        "```console run\n$ export NOTE=$PWD/note\n$ cat $NOTE; \\\n  echo ' and read'\nma... and read\n$ exit 3 # exit 3\n```\n",
    )
    assert documents.run(page, tmp_path) == 3


def test_what_a_page_leaves_running_serves_the_next_blocks_and_ends_with_it(tmp_path: Path) -> None:
    page = write(
        tmp_path,
        "<!-- free ports: 8080 -->\n"
        "```console run\n$ python -m http.server 8080 --bind 127.0.0.1 > log 2>&1 & echo $! > pid\n```\n"
        "```python run\n"
        "import time, urllib.request\n"
        "while True:\n"
        "    try:\n"
        "        urllib.request.urlopen('http://127.0.0.1:8080/pid').read()\n"
        "        break\n"
        "    except OSError:\n"
        "        time.sleep(0.05)\n```\n",
    )
    assert documents.run(page, tmp_path) == 2
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```console run\n$ echo no\nyes\n```", "line 1: `echo no` is said to print"),
        ("text\n\n```console run\n$ false\n```", "line 3: `false` ended with 1, not with 0"),
        ("```console run\n$ true # exit 3\n```", "ended with 0, not with 3"),
        ("```python run\nassert False\n```", "the program ended with 1"),
        ("```rust run\nfn main() {}\n```", "a block of rust cannot be run"),
        ("```console run\nwhimbrel\n```", "begins with '\\$ '"),
    ],
    ids=["output", "failure", "success", "python", "language", "no prompt"],
)
def test_a_page_that_is_wrong_is_named_with_the_line(
    tmp_path: Path, block: str, complaint: str
) -> None:
    with pytest.raises(documents.DocumentError, match=complaint):
        documents.run(write(tmp_path, block + "\n"), tmp_path)
