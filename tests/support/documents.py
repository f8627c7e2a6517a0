"""Run the code blocks of a Markdown page that are marked ``run``.

A block is marked in its first line, after the language, where no renderer shows it::

    ```console run          ```python run
    $ whimbrel --version     import whimbrel_core
    whimbrel, version ...    ```
    ```

The blocks of a page run from top to bottom in one empty folder. A python block is a program of
its own. In a console block ``$`` begins a command (a backslash continues it), ``# exit 3`` at its
end says that it must fail so, and the lines below are what it prints, with ``...`` for anything;
no lines, no claim.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"\s+# exit (\d+)\s*$")
LANGUAGES = {"python", "console"}
TIMEOUT_S = 90


class Block(NamedTuple):
    """One runnable block: where it begins (1-based line), its language and its lines."""

    line: int
    language: str
    body: str


class Command(NamedTuple):
    """One command of a console block, with the exit code and the output that are promised."""

    words: str
    exit_code: int
    output: str


class DocumentError(AssertionError):
    """A page says something that is not so."""


def runnable(text: str) -> list[Block]:
    """Return the blocks of a page that are marked ``run``.

    Raises:
        DocumentError: a block is marked so in a language that nothing here runs.
    """
    blocks = []
    for found in FENCE.finditer(text):
        language, *marks = found["info"].split() or [""]
        if "run" not in marks:
            continue
        line = text.count("\n", 0, found.start()) + 1
        if language not in LANGUAGES:
            msg = f"line {line}: a block of {language or 'no language'} cannot be run"
            raise DocumentError(msg)
        blocks.append(Block(line, language, found["body"]))
    return blocks


def commands(body: str) -> list[Command]:
    """Return the commands of a console block."""
    found: list[Command] = []
    lines = iter(body.splitlines())
    for line in lines:
        if line.startswith("$ "):
            words = line[2:]
            while words.endswith("\\"):
                words = words[:-1] + next(lines, "")
            exit_code = EXIT.search(words)
            found.append(Command(EXIT.sub("", words), int(exit_code[1]) if exit_code else 0, ""))
        elif found:
            last = found[-1]
            found[-1] = last._replace(output=f"{last.output}{line}\n")
        elif line.strip():
            msg = f"a console block begins with '$ ', not with {line!r}"
            raise DocumentError(msg)
    return found


def agrees(expected: str, printed: str) -> bool:
    """Whether output is as promised: ``...`` stands for anything, spaces at line ends for none."""
    wanted, got = (
        "\n".join(line.rstrip() for line in text.strip().splitlines())
        for text in (expected, printed)
    )
    pattern = ".*".join(re.escape(piece) for piece in wanted.split("..."))
    return re.fullmatch(pattern, got, re.DOTALL) is not None


def run(page: Path, folder: Path) -> int:
    """Run the marked blocks of ``page`` in ``folder``; return how many there were.

    Raises:
        DocumentError: naming page, line and command, with what was promised and what happened.
    """
    blocks = runnable(page.read_text())
    for block in blocks:
        where = f"{page.name}, line {block.line}"
        if block.language == "python":
            done = _start([sys.executable, "-c", block.body], folder)
            if done.returncode != 0:
                msg = f"{where}: the program ended with {done.returncode}:\n{done.stdout}"
                raise DocumentError(msg)
            continue
        for command in commands(block.body):
            done = _start(["bash", "-c", command.words], folder)
            if done.returncode != command.exit_code:
                msg = (
                    f"{where}: `{command.words}` ended with {done.returncode}, "
                    f"not with {command.exit_code}:\n{done.stdout}"
                )
                raise DocumentError(msg)
            if command.output.strip() and not agrees(command.output, done.stdout):
                msg = (
                    f"{where}: `{command.words}` is said to print\n{command.output}\n"
                    f"and printed\n{done.stdout}"
                )
                raise DocumentError(msg)
    return len(blocks)


def _start(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        words,
        check=False,
        cwd=folder,
        env=os.environ | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
    )
