"""Tiers: the folders of `tests/`, quick ones first, and a word on every test that did not run.

A tier is a folder. Inside one the order stays random. At the end of a run each test that was
skipped or left out is named with its reason: in pytest's summary, or, for `make test`, in a file
(``--not-run FILE``) so that it can say so in its very last lines.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

# Others come after these in alphabetical order; a browser starts last. Files that one process takes
# minutes for (the corpus, the pages) are not left to the end, where the other core would wait.
ORDER = ("core", "packager", "docs", "agent", "server")
LAST = ("integration", "e2e")
TESTS = Path(__file__).resolve().parent.parent
# Debian keeps daemons where only root's PATH looks.
DAEMONS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Tiers:
    """Collects what ran and what did not."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.uncollected: dict[tuple[str, str], int] = {}

    @pytest.hookimpl(trylast=True)  # after pytest-randomly has shuffled
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out the campaigns unless they were asked for, and sort by tier."""
        if not config.getoption("--campaign"):
            left_out = [item for item in items if item.get_closest_marker("campaign")]
            if left_out:
                config.hook.pytest_deselected(items=left_out)
                items[:] = [item for item in items if not item.get_closest_marker("campaign")]
                self.uncollected.update(
                    Counter((tier_of(i.path), "a campaign (make campaign)") for i in left_out)
                )
        items.sort(key=lambda item: rank(tier_of(item.path)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand what was left out of the collection to the process that sums up."""
        output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
        if output is not None:  # a worker of pytest-xdist: it collects, and reports test by test
            output["whimbrel_tiers"] = [[*key, count] for key, count in self.uncollected.items()]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401 - xdist has no types
        """Take over what a worker left out; they have all collected the same."""
        found = getattr(node, "workeroutput", {}).get("whimbrel_tiers", [])
        self.uncollected |= {(tier, reason): count for tier, reason, count in found}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip a test whose programs are missing."""
        missing = [
            str(program)
            for marker in item.iter_markers("needs")
            for program in marker.args
            if shutil.which(str(program)) is None
        ]
        if missing:
            pytest.skip(f"not on PATH: {', '.join(sorted(set(missing)))}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what ran, and keep the reason of what was skipped."""
        tier = tier_of(TESTS.parent / report.nodeid.partition("::")[0])
        if report.skipped and not hasattr(report, "wasxfail"):
            self.reasons[tier, _reason(report)] += 1
        elif report.when == "call":
            self.ran[tier] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the reason of a file that skipped itself whole."""
        if report.skipped:
            path = TESTS.parent / report.nodeid.partition("::")[0]
            self.uncollected[tier_of(path), f"{path.name}: {_reason(report)}"] = 1

    def lines(self) -> list[str]:
        """Return one line for each tier and reason of not running."""
        return [
            f"{count} of tests/{tier}: {reason}" if tier else f"{count} tests: {reason}"
            for (tier, reason), count in sorted(
                (self.reasons + Counter(self.uncollected)).items(),
                key=lambda entry: (rank(entry[0][0]), entry[0]),
            )
        ]

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        """Name what did not run, here or in the file that was asked for."""
        wanted = config.getoption("--not-run")
        if wanted:
            counts = {
                "passed": len(terminalreporter.getreports("passed")),
                "failed": sum(len(terminalreporter.getreports(w)) for w in ("failed", "error")),
                "skipped": len(terminalreporter.getreports("skipped")),
            }
            found = {"ran": dict(self.ran), "counts": counts, "not_run": self.lines()}
            Path(wanted).write_text(json.dumps(found))
            return
        for line in self.lines():
            terminalreporter.write_line(f"did not run: {line}", yellow=True)


def tier_of(path: Path) -> str:
    """Return the folder of `tests/` that holds ``path``, or "" outside of them."""
    try:
        parts = path.relative_to(TESTS).parts
    except ValueError:
        return ""
    return parts[0] if len(parts) > 1 else ""


def rank(tier: str) -> tuple[int, str]:
    """Return the sort key of a tier."""
    if tier in ORDER:
        return ORDER.index(tier), tier
    if tier in LAST:
        return len(ORDER) + 1 + LAST.index(tier), tier
    return len(ORDER), tier


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    detail = report.longrepr
    text = str(detail[2]) if isinstance(detail, tuple) else str(detail)
    return text.removeprefix("Skipped: ").partition("\n")[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this plugin."""
    group = parser.getgroup("whimbrel")
    group.addoption("--not-run", metavar="FILE", help="write what did not run to FILE as JSON")
    group.addoption(
        "--campaign", action="store_true", help="long seeds: campaigns too, and more examples"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Find daemons as root does, and start to count."""
    path: Sequence[str] = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*path, *(d for d in DAEMONS if d not in path)])
    config.pluginmanager.register(Tiers(), "whimbrel-tiers")
