"""The dashboard in a real browser: no complaint, nothing foreign, live without losing one's place."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Page, chromium
from tests.support.fake_fleet.fleet import FakeFleet
from tests.support.page import too_faint
from tests.support.web import TOKEN, serving, web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(180)]

PAGES = (
    "/",
    "/models/flights?version=1.0.0&subject=lga",
    "/devices/lga",
    "/rollouts/3",
    "/alerts/3?replay=1",
    "/patterns",
    "/schema",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("chromium")
    with chromium(folder) as started:
        yield started
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def story(page: Page, tmp_path: Path) -> Iterator[tuple[Page, FakeFleet, str]]:
    fleet = FakeFleet()
    page.complaints.clear()
    page.requests.clear()
    with serving(web(fleet, tmp_path)) as address:
        yield page, fleet, address
        page.open("about:blank#left")


def test_no_page_makes_the_browser_complain_or_look_elsewhere(
    story: tuple[Page, FakeFleet, str],
) -> None:
    page, _, address = story
    for path in PAGES:
        page.open(address + path)
        assert page.value("document.querySelector('h1').innerText.length > 0")
        assert page.value("getComputedStyle(document.body).margin") == "0px", "no stylesheet"
        assert page.value(
            "[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 0 || !s.checkVisibility())"
        )
    assert page.complaints == []
    foreign = [r for r in page.requests if not r.startswith((address, "about:", "data:"))]
    assert foreign == []


@pytest.mark.parametrize("width", [360, 1360])
def test_no_page_is_wider_than_the_screen(story: tuple[Page, FakeFleet, str], width: int) -> None:
    page, _, address = story
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    for path in PAGES:
        page.open(address + path)
        assert page.value("document.documentElement.scrollWidth") <= width, path


CONTRAST = too_faint(
    ".badge, .chip, .faint, .soft, .why, a, th, td, dt, button, .tile-note, .arrow, "
    ".banner strong, .banner p, .empty, .count"
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(
    story: tuple[Page, FakeFleet, str], scheme: str
) -> None:
    page, _, address = story
    page.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    for path in PAGES:
        page.open(address + path)
        assert page.value("matchMedia('(prefers-color-scheme: dark)').matches") is (
            scheme == "dark"
        )
        assert page.value(CONTRAST) == [], path


def test_a_change_appears_by_itself_and_what_a_person_does_stays(
    story: tuple[Page, FakeFleet, str],
) -> None:
    page, fleet, address = story
    page.open(address + "/rollouts/3")
    page.value("window.mark = 1")
    assert "running" in page.value("document.querySelector('#head').innerText")
    fleet.pause_rollout(3, "ada")
    page.until("document.querySelector('#head').innerText.includes('paused')")
    assert page.value("window.mark") == 1, "the page was loaded again"
    assert page.value("document.querySelector('#live-status').innerText") == "live"
    page.open(address + "/devices/lga")
    page.value("document.querySelector('#windows details').open = true")
    page.value("document.querySelector('#windows').dataset.seen = 'yes'")
    fleet.label_device("lga", {"site": "roof"}, "ada")
    page.until("document.querySelector('#head').innerText.includes('roof')")
    assert page.value("document.querySelector('#windows details').open")
    assert page.value("document.querySelector('#windows').dataset.seen") == "yes"
    assert page.complaints == []


def test_a_server_that_is_away_is_said_and_its_return_too(page: Page, tmp_path: Path) -> None:
    fleet = FakeFleet()
    with serving(web(fleet, tmp_path)) as address:
        page.open(address + "/rollouts/3")
        fleet.fail = OSError("gone")
        page.until("document.querySelector('#live-status').dataset.state === 'off'")
        assert "no answer" in page.value("document.querySelector('#live-status').innerText")
        assert page.value("document.querySelector('h1').innerText.includes('flights')")
        fleet.fail = None
        page.until("document.querySelector('#live-status').dataset.state === 'on'")
        page.open("about:blank#left")


def test_an_operator_logs_in_and_pauses_a_rollout(story: tuple[Page, FakeFleet, str]) -> None:
    page, fleet, address = story
    page.open(address + "/rollouts/3")
    page.value("document.querySelector('.login').click()")
    page.until("location.pathname === '/login' && !!document.querySelector('input[name=token]')")
    page.value(f"document.querySelector('input[name=token]').value = '{TOKEN}'")
    page.value("document.querySelector('form.stacked button').click()")
    page.until(
        "location.pathname === '/rollouts/3' && !!document.querySelector('form[action$=pause]')"
    )
    page.value("document.querySelector('form[action$=pause] button').click()")
    page.until("!!document.querySelector('form[action$=resume]')")
    assert fleet.rollout(3).state == "paused"
    assert fleet.log[-1].actor == "operator (dashboard)"
    assert page.complaints == []
