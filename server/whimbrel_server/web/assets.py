"""The stylesheet, scripts and icon: read once, named by their content, kept by browsers for ever."""

from __future__ import annotations

import hashlib
from importlib import resources

import msgspec

from whimbrel_core.drawing import theme

_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


class Asset(msgspec.Struct, frozen=True):
    """One file under ``static/``."""

    data: bytes
    media_type: str
    digest: str


def load() -> dict[str, Asset]:
    """Return the shipped files by name."""
    found = {}
    for entry in resources.files("whimbrel_server.web").joinpath("static").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            data = entry.read_bytes()
            if kind == "text/css":  # what core draws is drawn in core's colours
                data = theme.stylesheet().encode() + data
            found[entry.name] = Asset(data, kind, hashlib.sha256(data).hexdigest()[:16])
    return found


ASSETS = load()


def address(name: str) -> str:
    """Return the address of an asset; another content is another address."""
    return f"/static/{name}?v={ASSETS[name].digest}"
