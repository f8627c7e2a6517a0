"""Changes of operation: the proof, what a device needs, how it is watched, and what had to hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_packager.comparison.change import Change, named
from whimbrel_packager.written import latency, size, value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from whimbrel_core.bundle.manifest import GateOutcome, Manifest

_RELEVANT = 0.1  # of a time or of memory: less differs from one packing to the next
_TIMES = {"latency_us": "one row takes", "latency_16_us": "16 rows take"}


def changes(a: Manifest, b: Manifest) -> Iterator[Change]:
    """Yield what differs."""
    yield from _proof(a, b)
    yield from _needs(a, b)
    yield from _times(a, b)
    yield from _graph(a, b)
    yield from _policy(a, b)
    yield from _gates(a.gates, b.gates)


def _proof(a: Manifest, b: Manifest) -> Iterator[Change]:
    for name in ("rtol", "atol"):
        was, now = getattr(a.parity, name), getattr(b.parity, name)
        if was != now:
            looser = now > was
            text = f"{name} of parity is {'looser' if looser else 'tighter'}: {was:g} → {now:g}"
            yield Change(
                "notice" if looser else "info", "proof", name, text, f"{was:g}", f"{now:g}"
            )
    gone = [case for case in a.parity.cases if case not in b.parity.cases]
    if gone:
        yield Change("notice", "proof", "cases", f"parity was not proven on {named(gone)} rows")
    if a.source.rewrites != b.source.rewrites:
        old, new = ", ".join(a.source.rewrites), ", ".join(b.source.rewrites)
        text = f"conversion took {new or 'no rewrite'}, was {old or 'none'}"
        yield Change("info", "proof", "rewrites", text, old, new)


def _needs(a: Manifest, b: Manifest) -> Iterator[Change]:
    old, new = a.requirements, b.requirements
    if old.onnxruntime != new.onnxruntime:
        newer = _version(new.onnxruntime) > _version(old.onnxruntime)
        text = f"needs onnxruntime {new.onnxruntime} or newer, was {old.onnxruntime}"
        text += ": devices with an older one refuse it" if newer else ""
        yield Change("warn" if newer else "info", "runtime", "onnxruntime", text,
                     old.onnxruntime, new.onnxruntime)  # fmt: skip
    if _differ(old.memory_bytes, new.memory_bytes):
        was, now = size(old.memory_bytes), size(new.memory_bytes)
        more = new.memory_bytes > old.memory_bytes
        yield Change("notice" if more else "info", "runtime", "memory",
                     f"takes {now} of memory, was {was}", was, now)  # fmt: skip
    yield from _devices(old.device_classes, new.device_classes)


def _devices(old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    """Yield kinds of device that may not have it any more; none at all means every kind."""
    if set(old) == set(new):
        return
    was, now = ", ".join(old) or "any", ", ".join(new) or "any"
    narrower = bool(new) and (not old or bool(set(old) - set(new)))
    gone = [name for name in old if name not in new] if new else []
    told = f": {named(gone)} not any more" if gone else ""
    yield Change("warn" if narrower else "info", "runtime", "device classes",
                 f"is for devices of class {now}, was for {was}{told}", was, now)  # fmt: skip


def _times(a: Manifest, b: Manifest) -> Iterator[Change]:
    for name, what in _TIMES.items():
        was, now = a.metrics.get(name, 0.0), b.metrics.get(name, 0.0)
        if _differ(was, now):
            yield Change("notice" if now > was else "info", "runtime", name,
                         f"{what} {latency(now)}, was {latency(was)}",
                         latency(was), latency(now))  # fmt: skip


def _graph(a: Manifest, b: Manifest) -> Iterator[Change]:
    domains = {"" if "." not in name else name.rpartition(".")[0] for name in a.model.operators}
    added = [name for name in b.model.operators if name not in a.model.operators]
    gone = [name for name in a.model.operators if name not in b.model.operators]
    if added:
        foreign = {name.rpartition(".")[0] for name in added if "." in name} - domains
        told = f", of {named(sorted(foreign))}, which was not needed before" if foreign else ""
        yield Change("notice" if foreign else "info", "runtime", "operators",
                     f"uses more operators: {named(added)}{told}", "", named(added))  # fmt: skip
    if gone:
        yield Change("info", "runtime", "operators", f"does without operators: {named(gone)}",
                     named(gone), "")  # fmt: skip
    old, new = _opsets(a.model.opsets), _opsets(b.model.opsets)
    if old != new:
        yield Change("info", "runtime", "opsets", f"opset {new}, was {old}", old, new)
    precisions = [m.optimisation.precision if m.optimisation else "float32" for m in (a, b)]
    if precisions[0] != precisions[1]:
        yield Change("notice", "runtime", "precision",
                     f"weights are {precisions[1]}, were {precisions[0]}", *precisions)  # fmt: skip


def _policy(a: Manifest, b: Manifest) -> Iterator[Change]:
    old: Mapping[str, object] = msgspec.structs.asdict(a.drift)
    for name, now in msgspec.structs.asdict(b.drift).items():
        if old[name] != now:
            yield Change("notice", "policy", name, f"drift is watched with {name} {now}, was "
                         f"{old[name]}", str(old[name]), str(now))  # fmt: skip


def _gates(old: tuple[GateOutcome, ...], new: tuple[GateOutcome, ...]) -> Iterator[Change]:
    before, after = {g.name: g for g in old}, {g.name: g for g in new}
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            yield Change("warn", "gates", name, f"gate {name} is not asked for any more")
            continue
        if was.judged and not now.judged:
            yield Change("notice", "gates", name, f"gate {name} could not be judged this time")
        if was.threshold is None or now.threshold is None or was.threshold == now.threshold:
            continue
        easier = (now.threshold < was.threshold) == (now.rule == "at least")
        text = (
            f"gate {name} asks for {now.rule} {value(now.threshold)}, was {value(was.threshold)}: "
            f"{'easier' if easier else 'harder'}"
        )
        yield Change("notice" if easier else "info", "gates", name, text,
                     value(was.threshold), value(now.threshold))  # fmt: skip
    added = [name for name in after if name not in before]
    if added:
        yield Change("info", "gates", "gates", f"had to hold as well: {named(added)}")
    for name, now in after.items():
        if not now.held:
            yield Change("severe", "gates", name, f"gate {name} does not hold")


def _differ(was: float, now: float) -> bool:
    """Return whether two measurements are there, and differ by more than they do by chance."""
    return bool(was and now) and abs(now - was) > _RELEVANT * was


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _opsets(opsets: Mapping[str, int]) -> str:
    return ", ".join(f"{name or 'ai.onnx'} {number}" for name, number in sorted(opsets.items()))
