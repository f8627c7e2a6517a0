"""How a command shows what it is doing: on a terminal, and everywhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from whimbrel_packager.commands import output

if TYPE_CHECKING:
    import pytest

PROGRAM = """
from whimbrel_packager.commands import output
with output.stages(quiet=False) as show:
    show("converting")
    show("running the model: 20,000 of 100,000 rows")
    show("running the model: 80,000 of 100,000 rows")
    show("signing")
"""


def test_without_a_terminal_a_stage_is_one_line_however_far_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with output.stages(quiet=False) as show:
        show("asking the source model: 13,644 rows")
        for part in range(3):
            show(f"running the model: {part} of 3 rows")
        show("signing")
    lines = [line.partition(" s  ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "asking the source model: 13,644 rows",
        "running the model: 0 of 3 rows",
        "signing",
    ]


def test_a_quiet_command_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with output.stages(quiet=True) as show:
        show("converting")
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_stage_that_is_done_stays_with_its_time_and_the_last_one_goes() -> None:
    reader, writer = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, stderr=writer, env=environment)
    os.close(writer)
    shown = b""
    try:
        while part := os.read(reader, 4096):
            shown += part
    except OSError:
        pass  # the end of a terminal that nobody writes to
    finally:
        os.close(reader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"✓ converting \d+\.\d s", text)
    assert re.search(r"✓ running the model \d+\.\d s", text)
    assert "80,000 of 100,000 rows" in text
    assert "✓ signing" not in text
