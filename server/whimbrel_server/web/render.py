"""Templates: one environment, automatic escaping, undefined names are faults."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Request, Response
from markupsafe import Markup

from whimbrel_server.domain.wording.phrases import names
from whimbrel_server.web import assets, draw, scale, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Pages may load what this server serves and nothing else; nothing inline runs or styles.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# No count of rows is as large; a time in ms since 1970 is, from 1973 on.
_MOMENTS_MS = 100_000_000_000
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "private, no-cache",
    "vary": "cookie",
}


def _moment(ms: int | None) -> Markup:
    """Return a ``<time>`` that JavaScript may rewrite relative to now."""
    if not ms:
        return Markup('<span class="faint">–</span>')
    return Markup('<time datetime="{}">{}</time>').format(written.iso(ms), written.moment(ms))


def _ago(ms: int | None) -> Markup:
    if not ms:
        return Markup('<span class="faint">never</span>')
    return Markup('<time datetime="{}" data-ago>{}</time>').format(
        written.iso(ms), written.moment(ms)
    )


def _figure(value: object) -> str:
    """Return a figure of a verdict: a moment, a number, a few names."""
    if isinstance(value, int) and not isinstance(value, bool):
        return written.moment(value) if value > _MOMENTS_MS else written.count(value)
    if isinstance(value, float):
        return written.stat(value)
    if isinstance(value, list):
        return names([_name(one) for one in value]) or written.NOTHING
    return written.NOTHING if value is None else str(value)


def _name(one: object) -> str:
    """Return a device, or a cohort with how many of its devices drift."""
    if isinstance(one, dict) and {"cohort", "drifting", "devices"} <= one.keys():
        return f"{one['cohort']} ({one['drifting']} of {one['devices']})"
    return str(one)


def _query(base: msgspec.Struct, **changes: object) -> str:
    """Return ``?…`` for a page's state with changes; what is at its default is left out."""
    defaults = msgspec.to_builtins(type(base)())
    values = {**msgspec.to_builtins(base), **changes}
    left = {k: v for k, v in values.items() if v != defaults.get(k) and v not in {"", None}}
    return "?" + urlencode(left) if left else "?"


def _find(items: Iterable[Any], name: str, value: object) -> Any:  # noqa: ANN401 - a template's
    """Return the first item whose attribute is ``value``, or None."""
    return next((item for item in items if getattr(item, name) == value), None)


def environment() -> Environment:
    """Return the environment with the filters that templates use."""
    env = Environment(
        loader=PackageLoader("whimbrel_server.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        moment=_moment,
        ago=_ago,
        day=written.date,
        count=written.count,
        bytes=written.size,
        stat=written.stat,
        percent=written.percent,
        measured=written.measured,
        latency=written.latency,
        pvalue=written.pvalue,
        short=written.short,
        figure=_figure,
        duration=written.duration,
        word=scale.word,
        tone=scale.tone,
    )
    env.globals.update(
        asset=assets.address,
        draw=draw,
        scale=scale,
        written=written,
        query=_query,
        find=_find,
    )
    return env


ENVIRONMENT = environment()


def page(
    template: str,
    context: Mapping[str, Any],
    request: Request[Any, Any, Any] | None = None,
    *,
    status: int = 200,
) -> Response[bytes]:
    """Return a rendered page, or 304 when the browser has this very text."""
    body = ENVIRONMENT.get_template(template).render(context).encode()
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {**HEADERS, "etag": etag}
    if request is not None and status == 200 and etag in request.headers.get("if-none-match", ""):  # noqa: PLR2004 - HTTP
        return Response(b"", status_code=304, headers=headers)
    return Response(body, status_code=status, media_type=MediaType.HTML, headers=headers)
