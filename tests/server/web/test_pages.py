"""Every page renders for a full, an odd and an empty fleet, and means what its twin says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
import pytest

from whimbrel_server.views.devices import DeviceView
from whimbrel_server.views.models import ModelView
from whimbrel_server.web import render, written
from whimbrel_server.web.pages.alert import AlertPage
from whimbrel_server.web.pages.device import DevicePage
from whimbrel_server.web.pages.fleet import FleetPage
from whimbrel_server.web.pages.model import ModelPage
from whimbrel_server.web.pages.rollouts import RolloutPage, RolloutsPage
from whimbrel_server.web.render import CONTENT_SECURITY_POLICY

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import TestClient

    from tests.support.fake_fleet.fleet import FakeFleet

VOID = {"meta", "link", "input", "img", "br", "hr"}
PAGES = [
    "/",
    "/?q=queens&state=severe&sort=name",
    "/?q=nothing-like-this",
    "/?page=99",
    "/?unknown=1",
    "/models",
    "/models/flights",
    "/models/flights?version=1.0.0&subject=lga&step=day",
    "/models/flights?version=1.0.0&subject=ring%3Dstable&feature=carrier",
    "/models/flights?version=1.2.0",
    "/alerts/3",
    "/alerts/3?replay=1",
    "/alerts/4",
    "/devices/lga",
    "/devices/jfk?events=3",
    "/devices/pump-07",
    "/rollouts",
    "/rollouts/1",
    "/rollouts/2",
    "/rollouts/3",
    "/patterns",
    "/login",
]
TWINS = {
    "/fleet.json": FleetPage,
    "/models.json": tuple[ModelView, ...],
    "/models/flights.json?version=1.0.0&subject=lga": ModelPage,
    "/devices/lga.json": DevicePage,
    "/alerts/3.json": AlertPage,
    "/rollouts.json": RolloutsPage,
    "/rollouts/2.json": RolloutPage,
}


class Reader(HTMLParser):
    """Collects what a browser would complain about, and every link."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()
        if self.open:
            self.faults.append(f"not closed: {self.open}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag in {"a", "form", "link", "script", "img"}:
            self.links.append(given.get("href") or given.get("action") or given.get("src") or "")
        self.faults += [
            f"inline {name} on {tag}" for name in given if name == "style" or name.startswith("on")
        ]
        if tag == "script" and "src" not in given:
            self.faults.append("inline script")
        if tag == "img" and "alt" not in given:
            self.faults.append("img without alt")
        if tag == "svg" and not ({"aria-label", "aria-hidden"} & set(given)):
            self.faults.append("svg without a name")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_well_formed_and_its_policy_allows_nothing_inline_or_foreign(
    client: TestClient[Litestar], path: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    page = Reader(answer.text)
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith(("/", "?", "#")) for link in page.links), page.links
    for number in ("nan", "None", "inf<"):
        assert number not in answer.text


@pytest.mark.parametrize("path", ["/", "/models", "/rollouts", "/patterns", "/login"])
def test_a_new_server_says_on_every_page_what_to_do(
    new_server: TestClient[Litestar], path: str
) -> None:
    answer = new_server.get(path)
    assert answer.status_code == 200
    assert Reader(answer.text).faults == []
    if path != "/login":
        assert "<code>" in answer.text, "an empty page names the command that fills it"


def test_an_unwell_server_says_so_on_top_and_that_devices_go_on(
    new_server: TestClient[Litestar],
) -> None:
    text = new_server.get("/").text
    assert "does not answer" in text
    assert "Devices go on serving" in text


def test_no_link_of_any_page_leads_nowhere(client: TestClient[Litestar]) -> None:
    seen: set[str] = set()
    left = ["/"]
    while left:
        path = left.pop().partition("#")[0]
        # A page's own variations are without end: one of each kind is enough.
        kind = re.sub(r"=[^&]*", "=", path)
        if kind in seen or path.startswith(("/logout", "/alerts")):
            continue
        seen.add(kind)
        answer = client.get(path)
        assert answer.status_code == 200, path
        if answer.headers["content-type"].startswith("text/html"):
            base = path.partition("?")[0]
            links = Reader(answer.text).links
            left += [
                base + link if link.startswith("?") else link
                for link in links
                if not link.startswith("#")
            ]
    assert {"/devices/lga", "/rollouts/2", "/models/flights", "/schema", "/metrics"} <= seen


@pytest.mark.parametrize(("path", "kind"), TWINS.items(), ids=TWINS)
def test_every_page_has_a_twin_that_decodes_into_the_page(
    client: TestClient[Litestar], path: str, kind: type[object]
) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    value: object = msgspec.json.decode(answer.content, type=kind)
    page = client.get(path.replace(".json", "") if path != "/fleet.json" else "/")
    link = re.search(r'rel="alternate" type="application/json" href="([^"]+)"', page.text)
    assert link is not None
    assert link[1].replace("&amp;", "&") == path
    assert value


def test_the_fleet_is_shown_worst_first_and_failed_updates_before_drift(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    def order() -> list[str]:
        return [row["device"]["device"] for row in client.get("/fleet.json").json()["rows"]]

    assert order() == ["lga", "jfk", "ewr", "pump-07"]
    ewr = fleet.device("ewr")
    failed = msgspec.structs.replace(ewr.slots[0], phase="failed")
    fleet._devices["ewr"] = msgspec.structs.replace(ewr, slots=(failed,))
    assert order() == ["ewr", "lga", "jfk", "pump-07"]


def test_filters_are_in_the_address_and_survive_in_the_form(client: TestClient[Litestar]) -> None:
    rows = client.get("/fleet.json?q=queens&state=warn").json()["rows"]
    assert [r["device"]["device"] for r in rows] == ["jfk"]
    text = client.get("/?q=queens&state=warn").text
    assert 'value="queens"' in text
    assert '<option value="warn" selected>' in text


def test_many_devices_come_in_pages(client: TestClient[Litestar], fleet: FakeFleet) -> None:
    for i in range(120):
        name = f"till-{i:03}"
        fleet._devices[name] = DeviceView(device=name)
    seen = []
    for page in (1, 2, 3):
        answer = client.get(f"/fleet.json?sort=name&page={page}").json()
        assert answer["pages"] == 3
        seen += [r["device"]["device"] for r in answer["rows"]]
    assert seen == sorted(d.device for d in fleet.devices())
    assert "page=3" in client.get("/?sort=name&page=2").text


def test_an_unchanged_page_is_not_sent_again_and_a_changed_one_is(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    first = client.get("/rollouts/3")
    again = client.get("/rollouts/3", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    fleet.pause_rollout(3, "ada")
    changed = client.get("/rollouts/3", headers={"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200
    assert "paused" in changed.text


def test_what_devices_say_of_themselves_cannot_become_markup(
    client: TestClient[Litestar], fleet: FakeFleet
) -> None:
    evil = "\"><script>alert(1)</script><i x='"
    lga = fleet.device("lga")
    slot = msgspec.structs.replace(lga.slots[0], error=evil, error_code=evil)
    fleet._devices["lga"] = msgspec.structs.replace(
        lga, labels={evil: evil}, last_error=evil, slots=(slot,), worst_feature=evil, epoch=evil
    )
    fleet._alerts[0] = msgspec.structs.replace(fleet._alerts[0], message=evil, feature=evil)
    for path in ("/", "/devices/lga", "/?q=" + "%22%3E%3Cscript%3E"):
        text = client.get(path).text
        assert "<script>" not in text
        assert Reader(text).faults == []


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/devices/nix", 404, "nix"),
        ("/models/nix", 404, "nix"),
        ("/models/flights?version=9.9.9", 404, "9.9.9"),
        ("/models/flights?step=year", 400, "step"),
        ("/rollouts/999", 404, "999"),
        ("/rollouts/abc", 404, "abc"),
        ("/?page=two", 400, "page"),
        ("/nothing/here", 404, "/nothing/here"),
        ("/static/../app.py", 404, ""),
        ("/static/nix.css", 404, ""),
    ],
)
def test_a_wrong_address_is_answered_with_a_page_that_says_so(
    client: TestClient[Litestar], path: str, status: int, word: str
) -> None:
    answer = client.get(path, headers={"accept": "text/html"})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert word in answer.text
    assert Reader(answer.text).faults == []


def test_assets_are_kept_for_ever_because_their_address_is_their_content(
    client: TestClient[Litestar],
) -> None:
    assets = [link for link in Reader(client.get("/").text).links if link.startswith("/static/")]
    assert len(assets) >= 3
    for asset in assets:
        answer = client.get(asset)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert "?v=" in asset


def test_buttons_are_there_for_who_is_logged_in_alone(client: TestClient[Litestar]) -> None:
    from tests.support.web import TOKEN

    assert "<button>Pause" not in client.get("/rollouts/3").text
    client.post("/login", data={"token": TOKEN, "next": "/"})
    assert "<button>Pause" in client.get("/rollouts/3").text
    assert "<button>Pause" not in client.get("/rollouts/1").text
    assert "/acknowledge?back=" in client.get("/").text


def test_a_verdicts_figures_are_shown_whatever_they_hold() -> None:
    figure = render.ENVIRONMENT.filters["figure"]
    assert figure(["ewr", "jfk"]) == "ewr and jfk"
    assert figure([{"cohort": "site=ewr", "drifting": 3, "devices": 4}]) == "site=ewr (3 of 4)"
    assert figure([]) == figure(None) == written.NOTHING
