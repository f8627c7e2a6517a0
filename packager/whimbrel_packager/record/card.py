"""The model card: what a person has to know before this model decides anything.

Its sections are those of "Model Cards for Model Reporting" (Mitchell et al., 2019). What only a
person can know comes from the recipe's section ``[card]``; the rest is what was measured and
found. A section that nobody has filled says so: that, too, has to be known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from whimbrel_packager.record.lineage import UNCOMMITTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from whimbrel_core.bundle.manifest import GateOutcome, GatePart, Manifest, Optimisation
    from whimbrel_core.profile.baseline import Baseline
    from whimbrel_packager.record.environment import Environment
    from whimbrel_packager.record.lineage import Dependency, Lineage

_WORDS = 8  # of a vocabulary that are shown
_LATENCY = {"latency_us": "latency of one row, µs", "latency_16_us": "latency of 16 rows, µs"}


class Concern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ethical consideration: a risk, and what is done about it.

    Args:
        risk: in a sentence.
        mitigation: in a sentence; "" when nothing is done.
    """

    risk: str
    mitigation: str = ""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What only a person can say of a model. All of it is shown as it is written here.

    Args:
        owner: person or team that answers for the model.
        contact: how to reach them.
        intended_use: what the model is for, one sentence each.
        users: who is meant to use it.
        out_of_scope: what it must not be used for.
        training_data: where the training data came from, and how it was chosen.
        evaluation_data: likewise, of the reference data.
        limitations: where it is known to fail.
        tradeoffs: what was given up for what.
        ethics: risks to people, with what is done about them.
        references: papers and pages about it.
    """

    owner: str = ""
    contact: str = ""
    intended_use: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    training_data: str = ""
    evaluation_data: str = ""
    limitations: tuple[str, ...] = ()
    tradeoffs: tuple[str, ...] = ()
    ethics: tuple[Concern, ...] = ()
    references: tuple[str, ...] = ()


def build(
    card: Card, manifest: Manifest, baseline: Baseline, lineage: Lineage, environment: Environment
) -> bytes:
    """Return the card as Markdown."""
    lines = [
        f"# Model card: {_text(manifest.name)} {manifest.version}",
        "",
        _text(manifest.description) or "*No description was given.*",
        *_details(card, manifest),
        *_use(card),
        *_data(card, baseline),
        *_metrics(manifest, lineage),
        *_limits(card, manifest),
        *_conversion(manifest),
        *_lineage(manifest, lineage, environment),
    ]
    if card.references:
        lines += ["", "## References", "", *_items(card.references)]
    return "\n".join([*lines, ""]).encode()


def _details(card: Card, manifest: Manifest) -> Iterator[str]:
    source, needs = manifest.source, manifest.requirements
    yield from ("", "## Model details", "")
    owner = " · ".join(_text(part) for part in (card.owner, card.contact) if part)
    rows = {
        "Task": manifest.purpose,
        "Classes": ", ".join(
            f"{_text(name)} (positive)" if i == manifest.positive else _text(name)
            for i, name in enumerate(manifest.classes)
        ),
        "Model": f"{_text(source.estimator)}, made with {source.framework} {source.framework_version}",
        "Format": f"ONNX, {manifest.model.size_bytes:,} bytes, "
        f"{sum(manifest.model.operators.values())} operators",
        "Made smaller": _smaller(manifest.optimisation) if manifest.optimisation else "",
        "Version": f"{manifest.version}, release {manifest.release}",
        "Packed": manifest.created,
        "Owner": owner,
        "Licence": _text(manifest.licence) or "*not stated*",
        "Runs on": f"onnxruntime {needs.onnxruntime} or newer"
        + (f", {needs.memory_bytes / 1e6:.0f} MB of memory" if needs.memory_bytes else "")
        + (f"; devices of class {', '.join(needs.device_classes)}" if needs.device_classes else ""),
    }
    yield from (f"- **{name}:** {text}" for name, text in rows.items() if text)


def _smaller(made: Optimisation) -> str:
    lost = ", ".join(f"{_text(name)} {value:.3g}" for name, value in sorted(made.loss.items()))
    return f"{made.precision}, from {made.size_bytes:,} bytes" + (
        f"; measured loss on {made.rows:,} rows: {lost}" if lost else ""
    )


def _use(card: Card) -> Iterator[str]:
    yield from ("", "## Intended use", "")
    yield from _items(card.intended_use) or ["*Not stated.*"]
    if card.users:
        yield from ("", "Users:", "", *_items(card.users))
    if card.out_of_scope:
        yield from ("", "Out of scope:", "", *_items(card.out_of_scope))


def _data(card: Card, baseline: Baseline) -> Iterator[str]:
    yield from ("", "## Data", "")
    yield f"Training data: {_text(card.training_data) or '*not described*'}"
    yield ""
    yield (
        f"Reference data: {baseline.window.rows:,} rows, against which windows of live data are "
        f"compared. {_text(card.evaluation_data)}".rstrip()
    )
    yield from ("", "What the model reads, as it is in the reference data:", "")
    rows = []
    for feature, stats in zip(baseline.layout.features, baseline.stats, strict=False):
        if feature.role != "input":
            continue
        if stats.mean is None or stats.sd is None:
            words = ", ".join(_text(word) for word in feature.vocabulary[:_WORDS])
            more = len(feature.vocabulary) - _WORDS
            typical, span = "", words + (f" and {more} more" if more > 0 else "")
        else:
            typical = f"{stats.mean:.4g} ± {stats.sd:.4g}"
            known = stats.min is not None and stats.max is not None
            span = f"{stats.min:.4g} to {stats.max:.4g}" if known else ""
        missing = f"{stats.null_rate:.1%}" if stats.null_rate else ""
        rows.append(
            (_text(feature.name), feature.kind, _text(feature.unit or ""), typical, span, missing)
        )
    yield from _table(("input", "kind", "unit", "mean ± sd", "values", "missing"), rows)


def _metrics(manifest: Manifest, lineage: Lineage) -> Iterator[str]:
    yield from ("", "## Metrics", "")
    quality = {k: v for k, v in manifest.metrics.items() if k not in {*_LATENCY, "rows"}}
    if quality:
        rows = manifest.metrics.get("rows")
        yield "Measured by the packager" + (f" on {rows:,.0f} reference rows" if rows else "") + ":"
        yield ""
        yield from _table(("metric", "value"), [(_text(k), f"{v:.4g}") for k, v in quality.items()])
    else:
        yield "*No labels were given, so that nothing is known of its quality.*"
    yield from _gates(manifest)
    if lineage.metrics:
        yield from ("", "Stated by the training:", "")
        stated = [(_text(k), f"{v:.4g}") for k, v in sorted(lineage.metrics.items())]
        yield from _table(("metric", "value"), stated)
    if times := [(_LATENCY[k], f"{v:.4g}") for k, v in manifest.metrics.items() if k in _LATENCY]:
        yield from ("", "On the machine that packed it, with one thread:", "")
        yield from _table(("measured", "value"), times)


def _gates(manifest: Manifest) -> Iterator[str]:
    if not manifest.gates:
        return
    yield from ("", "These gates had to hold before it was signed:", "")
    rows = []
    for gate in manifest.gates:
        limit = (
            f"{gate.rule} {gate.threshold:.4g} {gate.unit}" if gate.threshold is not None else ""
        )
        found = _text(gate.message) if gate.judged else f"not judged: {_text(gate.message)}"
        rows.append((_text(gate.name), _figure(gate), limit.strip(), found))
    yield from _table(("gate", "found", "demanded", "in words"), rows)
    parts = [
        (_text(gate.name), _text(part.name), f"{part.rows:,}", _figure(part))
        for gate in manifest.gates
        for part in gate.parts
        if part.measured is not None
    ]
    if parts:
        yield from ("", "By segment and column:", "")
        yield from _table(("gate", "part", "rows", "found"), parts)


def _figure(found: GateOutcome | GatePart) -> str:
    if found.measured is None:
        return ""
    span = found.interval
    return f"{found.measured:.4g}" + (f" ({span[0]:.4g} to {span[1]:.4g})" if span else "")


def _limits(card: Card, manifest: Manifest) -> Iterator[str]:
    yield from ("", "## Limitations", "")
    yield from _items(card.limitations) or [
        "*None were stated; that is not to say there are none.*"
    ]
    if card.tradeoffs:
        yield from ("", "Trade-offs:", "", *_items(card.tradeoffs))
    drift = manifest.drift
    yield ""
    yield (
        f"It is watched in windows of {drift.window_s} s with at least {drift.min_rows} rows; a "
        f"shift (PSI) of {drift.warn_psi:g} warns, one of {drift.severe_psi:g} alarms."
    )
    yield from ("", "## Ethical considerations", "")
    if not card.ethics:
        yield "*None were stated.*"
    for concern in card.ethics:
        done = _text(concern.mitigation) or "*nothing is done about it*"
        yield f"- {_text(concern.risk)} — {done}"


def _conversion(manifest: Manifest) -> Iterator[str]:
    parity, source = manifest.parity, manifest.source
    yield from ("", "## Proof of conversion", "")
    how = (
        f"Converted by {source.converter} {source.converter_version}. "
        if source.converter_version
        else ""
    )
    yield (
        f"{how}The ONNX model answered {parity.rows:,} rows as the source model did: the largest "
        f"difference was {parity.max_abs_error:.3g}, allowed were {parity.atol:g} + "
        f"{parity.rtol:g} of the value. {parity.label_ties or 'No'} rows had tied labels."
    )
    if source.rewrites:
        yield from ("", f"It took: {', '.join(map(_text, source.rewrites))}.")
    yield ""
    yield from _table(("rows", "count"), [(_text(k), str(v)) for k, v in parity.cases.items()])


def _lineage(manifest: Manifest, lineage: Lineage, environment: Environment) -> Iterator[str]:
    yield from ("", "## Lineage", "")
    yield from _table(
        ("what", "where", "digest"),
        [(_text(entry.name), _where(entry), _digest(entry)) for entry in lineage.dependencies],
    )
    said: dict[str, Mapping[str, object]] = {
        "Run": lineage.runs,
        "Seed": manifest.lineage.seeds,
        "Training": manifest.training,
        "Stage": lineage.parameters,
    }
    listed = [
        f"- {what}: {_text(name)} = {_text(str(value))}"
        for what, values in said.items()
        for name, value in values.items()
    ]
    if listed:
        yield from ("", *listed)
    shown = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    yield from ("", f"Packed with Python {environment.python}: {shown}.")


def _where(entry: Dependency) -> str:
    notes = [
        f"{_text(name)}: {_text(str(value))}"
        for name, value in entry.annotations.items()
        if value is not False and name != "digest of"
    ]
    if entry.annotations.get(UNCOMMITTED):
        notes = [f"**with {UNCOMMITTED}**"]
    return " ".join([*([f"`{entry.uri}`"] if entry.uri else []), *notes])


def _digest(entry: Dependency) -> str:
    return " ".join(f"{kind} `{value}`" for kind, value in entry.digest.items())


def _items(texts: Sequence[str]) -> list[str]:
    return [f"- {_text(text)}" for text in texts]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


_MARKDOWN: Mapping[int, str] = str.maketrans(
    {**{sign: f"\\{sign}" for sign in "\\`*[]<>|#~"}, "\n": " ", "\r": " "}
)
# An underscore inside a word emphasises nothing.
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def _text(text: str) -> str:
    r"""Return a text so that Markdown shows it as it is, on one line.

    >>> print(_text("a|b *c* _d_ e_f"))
    a\|b \*c\* \_d\_ e_f
    """
    return _UNDERSCORE.sub(r"\\_", text.translate(_MARKDOWN))
