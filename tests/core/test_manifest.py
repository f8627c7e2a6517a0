"""Manifests of every released form are read for ever; what a newer packager adds is passed over."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from whimbrel_core.bundle import manifest

GOLDEN = (pathlib.Path(__file__).parent / "golden" / "manifest-1.json").read_bytes()


def lacking(kept: Any, made: Any, at: str = "") -> list[str]:  # noqa: ANN401 - any JSON
    """Return the places of ``kept`` that are not as they are in ``made``."""
    if isinstance(kept, dict) and isinstance(made, dict):
        return [
            place
            for key, value in kept.items()
            for place in (
                lacking(value, made[key], f"{at}.{key}") if key in made else [f"{at}.{key}"]
            )
        ]
    if isinstance(kept, list) and isinstance(made, list) and len(kept) == len(made):
        return [
            p
            for i, (a, b) in enumerate(zip(kept, made, strict=True))
            for p in lacking(a, b, f"{at}[{i}]")
        ]
    return [] if kept == made else [at]


def with_more(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a manifest as a newer packager might write it: more keys in every structure."""
    if isinstance(value, list):
        return [with_more(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    inner = {key: with_more(held) for key, held in value.items()}
    # A mapping of names to plain values is no structure: there a key has a meaning.
    plain = all(isinstance(held, int | float | str) for held in value.values()) and len(value) < 3
    return inner if plain else {**inner, "of_a_newer_version": {"unknown": [1]}}


def test_the_golden_manifest_is_read_and_nothing_of_it_is_lost() -> None:
    read = manifest.decode(GOLDEN)
    assert (read.title, read.release, read.positive) == ("flights-1.2.0-rc.1", 7, 1)
    assert read.lineage.commit == "d57b1d1a1599a35fd84518d2fa76390733c390e1"
    assert read.lineage.dirty
    assert read.gates[0].parts[0].interval == (0.77, 0.89)
    assert read.optimisation is not None
    assert read.optimisation.loss == {"auc": 0.001}
    assert lacking(json.loads(GOLDEN), json.loads(read.encode())) == []


def test_a_manifest_of_before_lineage_and_gates_is_read_with_defaults() -> None:
    old = json.loads(GOLDEN)
    for key in ("lineage", "gates", "detector", "optimisation", "training", "metrics", "licence"):
        del old[key]
    del old["source"]["rewrites"], old["source"]["digest"]
    read = manifest.decode(json.dumps(old).encode())
    assert read.lineage == manifest.Lineage()
    assert read.gates == ()


def test_what_a_newer_packager_adds_is_passed_over() -> None:
    newer = with_more(json.loads(GOLDEN))
    assert "of_a_newer_version" in newer["lineage"]
    assert "of_a_newer_version" in newer["gates"][0]["parts"][0]
    assert manifest.decode(json.dumps(newer).encode()) == manifest.decode(GOLDEN)
