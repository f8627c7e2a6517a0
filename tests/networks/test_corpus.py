"""Every network of the corpus ends within tolerance, or refused for the right reason."""

from __future__ import annotations

import pytest

from tests.packager.corpus import collection, judge, page

FOUND, _ = collection.sources()
FRAMEWORKS = ("torch", "keras")
NAMES = [(key, name) for key in FRAMEWORKS for name in FOUND[key].cases]
every_case = pytest.mark.parametrize(
    ("key", "name"), NAMES, ids=[f"{key}: {name}" for key, name in NAMES]
)


@every_case
def test_no_network_is_silently_wrong_and_the_page_says_what_was_seen(key: str, name: str) -> None:
    # One test: of two, each process of tests that gets one would judge the case anew.
    seen = judge.seen(key, name)
    judge.require(FOUND[key].cases[name], seen)
    page.require_row(FOUND[key].name, name, seen)
