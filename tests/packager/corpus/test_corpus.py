"""Every model of the corpus ends within tolerance, or refused for the right reason."""

from __future__ import annotations

import pytest

from tests.packager.corpus import collection, judge, page

FOUND, MISSING = collection.sources()
NAMES = [(key, name) for key, source in FOUND.items() for name in source.cases]
every_case = pytest.mark.parametrize(
    ("key", "name"), NAMES, ids=[f"{key}: {name}" for key, name in NAMES]
)


@every_case
def test_no_model_is_silently_wrong_and_the_page_says_what_was_seen(key: str, name: str) -> None:
    # One test: of two, each process of tests that gets one would judge the case anew.
    seen = judge.seen(key, name)
    judge.require(FOUND[key].cases[name], seen)
    page.require_row(FOUND[key].name, name, seen)


@pytest.mark.parametrize("key", FOUND)
def test_the_page_has_no_row_of_a_case_that_is_gone(key: str) -> None:
    rows = page.rows_of(page.PATH.read_text(), FOUND[key].name)
    assert set(rows) == set(FOUND[key].cases), "make docs"


def test_cases_of_a_framework_that_is_not_installed_are_named() -> None:
    if MISSING:
        named = "; ".join(f"cases of {key}: {why}" for key, why in MISSING.items())
        pytest.skip(f"{named}; those of networks are judged in tests/networks")
