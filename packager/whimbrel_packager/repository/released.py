"""Released bundles: what the signed targets name, and the rule of versions and release counters.

A published version never changes, and a release counter only grows: devices never go back below
the release that they have committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuf.api.metadata import Targets  # type: ignore[attr-defined]  # public by its documentation

    from whimbrel_core.bundle.manifest import Manifest


class Released(msgspec.Struct, frozen=True):
    """A bundle that the signed targets name."""

    name: str
    version: str
    release: int
    digest: str
    length: int
    path: str
    profile_id: str
    device_classes: tuple[str, ...] = ()
    deltas: tuple[dict[str, str], ...] = ()


def named_by(*roles: Targets) -> list[Released]:
    """Return the bundles that targets and teams' roles name, by name and release.

    A path is found in the first role that names it, as devices find it.
    """
    found: dict[str, Released] = {}
    for role in roles:
        for path, target in role.targets.items():
            custom = (target.custom or {}).get("whimbrel")
            if path.startswith("bundles/") and isinstance(custom, dict) and path not in found:
                fixed = {"digest": target.hashes["sha256"], "length": target.length, "path": path}
                found[path] = msgspec.convert({**custom, **fixed}, Released)
    return sorted(found.values(), key=lambda r: (r.name, r.release))


def last_release(mine: Sequence[Released]) -> int:
    """Return the highest release counter of a model's bundles; 0 for none."""
    return max((one.release for one in mine), default=0)


def require_growth(
    manifest: Manifest, mine: Sequence[Released], same: Released | None, bundle: Path
) -> None:
    """Refuse a bundle whose version is taken, or whose release counter does not grow.

    Args:
        manifest: of the bundle.
        mine: the releases of its model, oldest first.
        same: the one of its version, if there is one.
        bundle: path of the bundle's file.

    Raises:
        RefusedError: says which, and what to do.
    """
    if same is not None:
        raise RefusedError(
            f"{manifest.title} is published already, with other content "
            f"(sha256 {same.digest[:12]}…); {bundle.name} was not published",
            hint="a published version never changes: pack with a new --version",
            code="refused.version",
        )
    last = last_release(mine)
    if manifest.release <= last:
        newest = mine[-1].version
        raise RefusedError(
            f"{manifest.title} has release counter {manifest.release}, and {newest} has {last} "
            "already; devices never go back below a release, so it was not published",
            hint=f"pack it with --release {last + 1}, or with --repo, which finds the number",
            code="refused.release",
        )
