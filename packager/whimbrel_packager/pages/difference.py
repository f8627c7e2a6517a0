"""The page on the difference of two bundles: verdict, changes, quality, and how the data moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whimbrel_core.drawing import reliability, spans
from whimbrel_core.pages import distribution, layout
from whimbrel_core.pages.element import Child, Html, maybe, tag
from whimbrel_core.pages.layout import Column, Section
from whimbrel_packager import written
from whimbrel_packager.comparison.difference import missing
from whimbrel_packager.comparison.figures import told
from whimbrel_packager.pages import quality

if TYPE_CHECKING:
    from whimbrel_core.profile.drift.drifts import FeatureDrift
    from whimbrel_packager.comparison.difference import Difference, Side
    from whimbrel_packager.comparison.figures import Figure
    from whimbrel_packager.contents import Contents

_TONES = {"breaking": "severe", "info": "none", "too_few": "none"}
_MAX_DRAWN = 24
_ROUNDS = 5e-4  # less is the same share
_HEADLINES = ("auc", "r2", "accuracy", "rmse", "mae")


def build(found: Difference, old: Contents, new: Contents) -> str:
    """Return the page; equal contents, equal text."""
    a, b = found.old, found.new
    name = a.name if a.name == b.name else f"{a.name} → {b.name}"
    foot = tag("p", f"Made from {a.title}.whim and {b.title}.whim alone.")
    return layout.document(
        f"{name} {a.version} → {b.version} · difference",
        "Difference of two bundles",
        [
            tag("h1", name, " ", tag("span", f"{a.version} → {b.version}")),
            tag("p", _verdict(found), class_="badges"),
            _warning(found),
            _tiles(found),
            _sides(found),
        ],
        [_changes(found), _quality(found, old, new), _data(found, old, new), _files(old, new)],
        foot,
    )


def _verdict(found: Difference) -> Html:
    tone = "ok" if found.update else "severe" if not found.compatible else "warn"
    return layout.badge(found.verdict, f"{tone} verdict")


def _warning(found: Difference) -> Html | None:
    states = {one.signature for one in (found.old, found.new)}
    if states == {"verified"}:
        return None
    which = "One of them has no signature." if "none" in states else "No key was given."
    text = f"{which} Nobody vouches for what this page says."
    return tag("p", text, class_="warning")


def _tiles(found: Difference) -> Html | None:
    items: list[tuple[str, Child, Child]] = []
    by_name = {one.name: one for one in found.figures}
    for name in _HEADLINES:
        one = by_name.get(name)
        if one is not None and one.old is not None and one.new is not None:
            note = f"{written.value(one.old)} → {written.value(one.new)}"
            items.append((written.metric(name), written.signed(one.new - one.old), note))
            break
    moved = sum(one.state in {"warn", "severe"} for one in found.features)
    items += [
        ("Breaking changes", str(sum(c.level == "breaking" for c in found.changes)), None),
        ("Features that moved", str(moved), f"of {len(found.features)}, in the reference data"),
        ("Bundle", written.size(found.new.length), f"was {written.size(found.old.length)}"),
    ]
    if found.delta_bytes is not None:
        share = written.percent(found.delta_bytes / found.new.length)
        items.append(("As a delta", written.size(found.delta_bytes), f"{share} of the full file"))
    return layout.tiles(items)


def _sides(found: Difference) -> Html | None:
    def cells(side: Side) -> list[Child]:
        signature = {
            "verified": layout.badge("verified", "ok"),
            "unchecked": layout.badge("not verified", "warn"),
            "none": layout.badge("not signed", "severe"),
        }[side.signature]
        key = layout.code(f"{side.key_id[:16]}…") if side.key_id else None
        return [
            side.version,
            str(side.release),
            written.moment(side.created),
            [signature, " ", key],
            layout.code(side.digest),
        ]

    columns = ["Version", "Release", "Packed", "Signature", "SHA-256"]
    return layout.table(columns, [cells(found.old), cells(found.new)], style="cards digests sides")


def _changes(found: Difference) -> Section:
    rows: list[list[Child]] = [
        [
            change.text,
            layout.badge(change.level, _TONES.get(change.level, change.level)),
            change.area,
        ]
        for change in found.changes
    ]
    return Section(
        "changes",
        "Changes",
        "The worst first.",
        [
            layout.table(["Change", "Level", "About"], rows, style="cards changes")
            or tag("p", "Nothing differs.")
        ],
    )


def _quality(found: Difference, old: Contents, new: Contents) -> Section:
    rows: list[list[Child]] = [
        [
            written.metric(one.name),
            "" if one.old is None else written.value(one.old),
            "" if one.new is None else written.value(one.new),
            "" if one.difference is None else written.signed(one.difference),
            _sure(one),
        ]
        for one in found.figures
    ]
    columns: list[Column | str] = [
        "Figure",
        Column("Old", number=True),
        Column("New", number=True),
        Column("Difference", number=True),
        "How sure",
    ]
    return Section(
        "quality",
        "Quality",
        "Each on its own held-out rows. On the same rows means that the new one was judged "
        "against this very old one before it was signed.",
        [
            layout.table(columns, rows, style="cards"),
            _gains(found),
            _reliability(old, new),
        ],
    )


def _sure(one: Figure) -> Child:
    if one.difference is None or (one.interval is None and one.paired is None):
        return None
    return told(one)


def _gains(found: Difference) -> Html | None:
    """Return what is known on the same rows as a drawing."""
    items = [
        spans.Span(
            written.metric(one.name),
            one.paired.gain,
            one.paired.interval,
            _state(one.paired.interval),
            written.signed(one.paired.gain),
        )
        for one in found.figures
        if one.paired is not None
    ]
    drawn = spans.draw(items, title="Gain on the same rows", zero=True)
    return layout.figure(
        [tag("b", "On the same rows"), tag("small", "how much better the new one is; 95 %")], drawn
    )


def _state(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "none"
    return "ok" if interval[0] > 0 else "severe" if interval[1] < 0 else "none"


def _reliability(old: Contents, new: Contents) -> Html | None:
    tables = [one.baseline.calibration for one in (old, new)]
    if tables[0] is None or tables[1] is None or tables[0].binary != tables[1].binary:
        return None
    drawn = reliability.draw(
        [quality.bins(table) for table in tables if table is not None],
        title="Reliability of the scores, old and new",
        width=440,
        height=320,
    )
    return layout.figure(
        [tag("b", "Calibration"), tag("small", "how often scores came true; rows per bin below")],
        drawn,
        _legend("line s0", "line s1"),
        style="",
    )


def _data(found: Difference, old: Contents, new: Contents) -> Section:
    rows: list[list[Child]] = [
        [
            one.feature,
            layout.badge(one.state.replace("_", " "), _TONES.get(one.state, one.state)),
            _distance(one.psi),
            _distance(one.js),
            _distance(one.w1_sd),
            missing(one) if abs(one.null_shift) >= _ROUNDS else "",
        ]
        for one in found.features
    ]  # fmt: skip
    columns: list[Column | str] = [
        "Feature",
        "State",
        Column("PSI", number=True),
        Column("JS", number=True),
        Column("W1 / sd", number=True),
        Column("Missing", number=True),
    ]
    drawn = [_histogram(one, old, new) for one in found.features[:_MAX_DRAWN]]
    return Section(
        "data",
        "Reference data",
        "How far the data of the new bundle lie from those of the old one, by the measures and "
        "words of drift. Devices compare live data with the new baseline once they are updated.",
        [
            layout.table(columns, rows, style="small"),
            maybe(drawn, _legend("reference", "current")),
            maybe(drawn, tag("div", drawn, class_="figures")),
        ],
    )


def _histogram(drift: FeatureDrift, old: Contents, new: Contents) -> Html | None:
    before, after = (
        next(p for p in distribution.profiled(one.baseline) if p.feature.name == drift.feature)
        for one in (old, new)
    )
    drawn = distribution.overlaid(before, after)
    tone = _TONES.get(drift.state, drift.state)
    return layout.figure(
        [
            tag("b", drift.feature),
            maybe(before.feature.unit, tag("span", before.feature.unit)),
            layout.badge(drift.state.replace("_", " "), tone),
        ],
        drawn,
        style="",
    )


def _legend(old: str, new: str) -> Html:
    def key(style: str, name: str) -> Html:
        shape = (
            f'<rect class="{style}" width="22" height="10"/>'
            if style == "reference"
            else f'<line class="{style}" x1="1" x2="21" y1="5" y2="5"/>'
        )
        swatch = Html(f'<svg class="swatch" viewBox="0 0 22 10" aria-hidden="true">{shape}</svg>')
        return tag("li", swatch, name)

    return tag("ul", key(old, "old"), key(new, "new"), class_="legend")


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _files(old: Contents, new: Contents) -> Section:
    rows: list[list[Child]] = []
    for name in sorted({*old.sizes, *new.sizes}):
        was, now = old.sizes.get(name), new.sizes.get(name)
        same = old.digests.get(name) == new.digests.get(name)
        rows.append(
            [
                name,
                "" if was is None else written.size(was),
                "" if now is None else written.size(now),
                "the same"
                if same
                else "gone"
                if now is None
                else "new"
                if was is None
                else "differs",
            ]
        )
    columns: list[Column | str] = ["File", Column("Old", number=True), Column("New", number=True),
                                   "Content"]  # fmt: skip
    return Section(
        "files", "Files", "What is in each.", [layout.table(columns, rows, style="narrow")]
    )
