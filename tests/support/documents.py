"""Run the code blocks of a Markdown page that are marked ``run``.

A block is marked in its first line, after the language, where no renderer shows it::

    ```console run          ```python run
    $ whimbrel --version     import whimbrel_core
    whimbrel, version ...    ```
    ```

The blocks of a page run from top to bottom in one empty folder. A python block is a program of
its own. In a console block ``$`` begins a command (a backslash continues it), ``# exit 3`` at its
end says that it must fail so, and the lines below are what it prints, with ``...`` for anything;
no lines, no claim. What ``$ export`` sets is there for all commands below.

A block of any language that is marked ``save=NAME`` is saved under that name, and not run.

What a console block leaves running (``&``) runs on for the blocks below, and is ended with the
page. A line ``<!-- free ports: 8080, 8500 -->`` anywhere says which numbers are ports that a
reader has free: each is exchanged for one that is free here, wherever it stands in a marked block.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.support.ports import free_port

FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
PORTS = re.compile(r"^<!-- free ports: ([\d, ]+) -->$", re.MULTILINE)
EXIT = re.compile(r"\s+# exit (\d+)\s*$")
LANGUAGES = {"python", "console"}
TIMEOUT_S = 120
END_S = 15


class Block(NamedTuple):
    """One marked block: where it begins (1-based line), its language, lines, and name if saved."""

    line: int
    language: str
    body: str
    save: str = ""


class Command(NamedTuple):
    """One command of a console block, with the exit code and the output that are promised."""

    words: str
    exit_code: int
    output: str


class DocumentError(AssertionError):
    """A page says something that is not so."""


def runnable(text: str) -> list[Block]:
    """Return the blocks of a page that are marked ``run`` or ``save=NAME``.

    Raises:
        DocumentError: a block is marked so in a language that nothing here runs.
    """
    blocks = []
    for found in FENCE.finditer(text):
        language, *marks = found["info"].split() or [""]
        line = text.count("\n", 0, found.start()) + 1
        names = [mark.removeprefix("save=") for mark in marks if mark.startswith("save=")]
        if names:
            blocks.append(Block(line, language, found["body"], names[0]))
        if "run" not in marks:
            continue
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


def with_free_ports(text: str) -> str:
    """Return ``text`` with the ports that it names exchanged for free ones."""
    for named in PORTS.finditer(text):
        for port in named[1].replace(",", " ").split():
            text = re.sub(rf"\b{port}\b", str(free_port()), text)
    return text


def run(page: Path, folder: Path) -> int:
    """Run the marked blocks of ``page`` in ``folder``; return how many there were.

    Raises:
        DocumentError: naming page, line and command, with what was promised and what happened.
    """
    blocks = runnable(with_free_ports(page.read_text()))
    shell = _Shell(folder)
    try:
        for block in blocks:
            _run_block(block, f"{page.name}, line {block.line}", shell)
    finally:
        shell.close()
    return len(blocks)


def _run_block(block: Block, where: str, shell: _Shell) -> None:
    if block.save:
        (shell.folder / block.save).write_text(block.body)
        return
    if block.language == "python":
        code, printed = shell.start([sys.executable, "-c", block.body])
        if code != 0:
            msg = f"{where}: the program ended with {code}:\n{printed}"
            raise DocumentError(msg)
        return
    for command in commands(block.body):
        code, printed = shell.do(command.words)
        if code != command.exit_code:
            msg = (
                f"{where}: `{command.words}` ended with {code}, "
                f"not with {command.exit_code}:\n{printed}"
            )
            raise DocumentError(msg)
        if command.output.strip() and not agrees(command.output, printed):
            msg = (
                f"{where}: `{command.words}` is said to print\n{command.output}\n"
                f"and printed\n{printed}"
            )
            raise DocumentError(msg)


class _Shell:
    """What the commands of a page share: a folder, variables, and what runs in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._variables = os.environ | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
        self._groups: list[int] = []

    def do(self, words: str) -> tuple[int, str]:
        """Run one command; return exit code and output."""
        if not words.startswith("export "):
            return self.start(["bash", "-c", words])
        code, printed = self.start(["bash", "-c", f"{words} && env -0"])
        if code == 0:
            pairs = (entry.partition("=") for entry in printed.split("\0") if entry)
            self._variables |= {name: value for name, _, value in pairs}
            printed = ""
        return code, printed

    def start(self, words: list[str]) -> tuple[int, str]:
        """Run a program in a process group of its own; return exit code and output."""
        process = subprocess.Popen(
            words,
            cwd=self.folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
            msg = f"`{words[-1]}` did not end in {TIMEOUT_S} s; it printed\n{printed}"
            raise DocumentError(msg) from error
        if _members(process.pid):
            self._groups.append(process.pid)
        return process.returncode, printed

    def close(self) -> None:
        """End what is left running: first what began last, which may lean on the others."""
        for group in reversed(self._groups):
            for number in (signal.SIGTERM, signal.SIGKILL):
                members = _members(group)
                if members:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(group, number)
                    psutil.wait_procs(members, timeout=END_S)


def _members(group: int) -> list[psutil.Process]:
    """Return the processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
