"""Write the reference pages from the product itself, or say where they are out of step.

``python tools/docs.py`` writes docs/reference; ``--check`` writes nothing and fails when a page
differs from what would be written, or when a declared command does not load.

===============  ============================================================
cli.md           the help of every command, as a terminal of 100 columns shows it
errors.md        the tree of errors, and every code that is raised, with its exit code
config-NAME.md   each default configuration file that a part ships (NAME.toml)
conversions.md   the corpus of models (tests/packager/corpus), of the frameworks installed here;
                 that its rows are true is for the tests to check: ``--check`` judges no model
===============  ============================================================
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import inspect
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whimbrel_core import cli, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs/reference"
PARTS = ("core", "packager", "agent", "server")
WIDTH = 100
NOTICE = "<!-- Written by `make docs`; do not edit. -->\n\n"


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description="Write the pages of docs/reference.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of step")
    checking = parser.parse_args().check
    cli_page, broken = command_line()
    errors_page, unread = error_codes()
    broken += unread
    pages = {"cli.md": cli_page, "errors.md": errors_page, **configuration()}
    for line in broken:
        print(f"{'error' if checking else 'warning'}: {line}", file=sys.stderr)
    if not checking:
        broken += _conversions()
    held = REFERENCE / "conversions.md"
    if held.exists():
        pages[held.name] = held.read_text()
    if checking:
        differences = [line for name, text in pages.items() for line in _difference(name, text)]
        differences += [f"{path.name}: nothing writes this page" for path in _orphans(pages)]
        for line in differences:
            print(line)
        if differences:
            print("docs/reference is out of step: make docs")
        return 1 if differences or broken else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (REFERENCE / name).write_text(text)
    for path in _orphans(pages):
        path.unlink()
    print(f"docs/reference: {', '.join(sorted(pages))}")
    return 0


def _difference(name: str, text: str) -> list[str]:
    path = REFERENCE / name
    held = path.read_text() if path.exists() else ""
    lines = difflib.unified_diff(
        held.splitlines(), text.splitlines(), f"{name} as committed", f"{name} as it is", "", "", 1
    )
    return [line.rstrip() for line in lines][:40]


def _orphans(pages: dict[str, str]) -> list[Path]:
    """Return pages that were once written and are no longer."""
    written = [path for path in REFERENCE.glob("*.md") if path.read_text().startswith(NOTICE)]
    return sorted(path for path in written if path.name not in pages)


def _conversions() -> list[str]:
    """Let the corpus write its page, which keeps what other environments wrote there."""
    command = [sys.executable, "-m", "tests.packager.corpus"]
    done = subprocess.run(command, check=False, cwd=ROOT)
    return ["conversions.md was not written: see above"] if done.returncode else []


# ------------------------------------------------------------------------------- command line


def command_line() -> tuple[str, list[str]]:
    """Return cli.md, and a line for each declared command that does not load."""
    broken: list[str] = []
    sections: list[str] = []
    index: list[str] = []
    for words, command, context in commands(broken):
        title = " ".join(words)
        anchor = title.replace(" ", "-")
        summary = command.get_short_help_str(limit=WIDTH)
        index.append(f"| [`{title}`](#{anchor}) | {summary.replace('|', chr(92) + '|')} |")
        help_text = command.get_help(context).rstrip()
        sections.append(f"## {title}\n\n```text\n{help_text}\n```\n")
    codes = inspect.cleandoc(cli.__doc__ or "").partition("::")[0]
    head = (
        f"{NOTICE}# Commands\n\n"
        "What `whimbrel` can do on a machine depends on the parts that are installed there.\n"
        "Errors go to standard error as `error:` and `hint:` lines, or as one JSON object with\n"
        "`--json`.\n\n"
        f"{_exit_codes(codes)}\n"
        "| command | |\n|---|---|\n" + "\n".join(index) + "\n\n"
    )
    return head + "\n".join(sections), broken


def _exit_codes(docstring: str) -> str:
    """Turn the table of exit codes in the docstring of the command line into Markdown."""
    rows = []
    for line in docstring.splitlines():
        code, _, meaning = line.partition("  ")
        if code.isdigit():
            rows.append(f"| {code} | {meaning.strip()} |")
    return "| exit code | |\n|---|---|\n" + "\n".join(rows) + "\n"


def commands(broken: list[str]) -> Iterator[tuple[list[str], click.Command, click.Context]]:
    """Yield every command with its words, groups before what they hold."""
    settings = {**cli.whimbrel.context_settings, "terminal_width": WIDTH}
    root = click.Context(cli.whimbrel, info_name="whimbrel", **settings)
    yield from _below(["whimbrel"], cli.whimbrel, root, broken)


def _below(
    words: list[str], command: click.Command, context: click.Context, broken: list[str]
) -> Iterator[tuple[list[str], click.Command, click.Context]]:
    yield words, command, context
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is None or inner.hidden:
            continue
        if (inner.help or "").startswith("(cannot be loaded"):  # the stand-in of core's cli
            broken.append(f"`{' '.join([*words, name])}`: {inner.help}")
            continue
        settings = {**inner.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
        below = click.Context(inner, parent=context, info_name=name, **settings)
        yield from _below([*words, name], inner, below, broken)


# ------------------------------------------------------------------------------------- errors


def error_codes() -> tuple[str, list[str]]:
    """Return errors.md, and a line for each module that could not be read."""
    broken: list[str] = []
    tree = inspect.cleandoc(errors.__doc__ or "").partition("::\n")[2].partition("\nRules:")[0]
    raised = _raised(broken)  # first, since it imports what adds to the tree
    kinds = sorted(_kinds(errors.WhimbrelError), key=lambda kind: (kind.exit_code, kind.__name__))
    rows = []
    for kind in kinds:
        codes = {kind.default_code: raised.pop((kind.__name__, None), set())}
        for name, code in [key for key in raised if key[0] == kind.__name__]:
            codes.setdefault(str(code), set()).update(raised.pop((name, code)))
        for code, parts in sorted(codes.items()):
            where = ", ".join(sorted(parts))
            again = "yes" if kind.retryable else ""
            rows.append(f"| `{code}` | {kind.__name__} | {kind.exit_code} | {again} | {where} |")
    page = (
        f"{NOTICE}# Errors\n\n"
        "Every error has a stable code, a sentence that says what happened to which thing, a hint\n"
        "where there is a next step, and the exit code of the command that ends with it.\n\n"
        f"```text\n{inspect.cleandoc(tree).strip()}\n```\n\n"
        "| code | error | exit | try again | raised in |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )
    return page, broken


def _kinds(kind: type[errors.WhimbrelError]) -> set[type[errors.WhimbrelError]]:
    """Return the public errors: the tree of core, and what a part adds in its own modules."""
    found = {kind}
    for inner in kind.__subclasses__():
        if inner.__module__.startswith("whimbrel_"):
            found |= _kinds(inner)
    return found


def _raised(broken: list[str]) -> dict[tuple[str, str | None], set[str]]:
    """Return which parts make an error of which name with which code (None: its own)."""
    names: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for module, path in _modules():
        try:
            tree = ast.parse(path.read_text(), filename=str(path))
            if any(_derives_error(node) for node in ast.walk(tree)) and module != errors.__name__:
                importlib.import_module(module)  # its errors are part of the tree, too
        except Exception as error:  # noqa: BLE001 - whatever a broken module raises is reported
            broken.append(f"{module} cannot be read: {type(error).__name__}: {error}")
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name.endswith("Error"):
                names[name, _code(node)].add(module.partition(".")[0].removeprefix("whimbrel_"))
    return names


def _derives_error(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any(
        isinstance(base, ast.Name) and hasattr(errors, base.id) for base in node.bases
    )


def _code(call: ast.Call) -> str | None:
    for keyword in call.keywords:
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return None


def _modules() -> Iterator[tuple[str, Path]]:
    for part in PARTS:
        for path in sorted((ROOT / part).glob(f"whimbrel_{part}/**/*.py")):
            words = path.relative_to(ROOT / part).with_suffix("").parts
            yield ".".join(words).removesuffix(".__init__"), path


# ------------------------------------------------------------------------------ configuration


def configuration() -> dict[str, str]:
    """Return a page for each default configuration file."""
    pages = {}
    for part in PARTS:
        for path in sorted((ROOT / part).glob(f"whimbrel_{part}/**/*.toml")):
            name = part if path.stem in {"default", "defaults", "config"} else path.stem
            pages[f"config-{name}.md"] = _configuration_page(part, name, path)
    return pages


def _configuration_page(part: str, name: str, path: Path) -> str:
    variable = f"WHIMBREL_{part.upper()}__SECTION__KEY"
    return (
        f"{NOTICE}# Configuration of the {name}\n\n"
        "Later wins: the values below, the file, environment variables\n"
        f"(`{variable}`), flags. An unknown key is refused with a suggestion.\n"
        "Secrets are given as paths of files.\n\n"
        f"The file that ships with `whimbrel-{part}`, with every key and its default:\n\n"
        f"```toml\n{path.read_text().rstrip()}\n```\n"
    )


if __name__ == "__main__":
    sys.exit(main())
