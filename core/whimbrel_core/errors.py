"""One tree of errors for every part of Whimbrel.

::

    WhimbrelError
    ├── UsageError            the caller asked for something that cannot be    exit 2
    │   └── ConfigError       a configuration file, variable or flag
    ├── InputError            bytes or values that came from outside are bad   exit 3
    │   ├── BundleError       a bundle is malformed or beyond its limits
    │   ├── ProfileError      a profile is malformed, or two do not fit
    │   ├── WireError         a message is malformed or beyond its limits
    │   └── RequestError      an inference request has the wrong shape, type or size
    ├── TrustError            a signature, key, digest or role does not hold   exit 4
    ├── RefusedError          well-formed and trusted, but not good enough     exit 5
    │   ├── ConversionError   a model cannot be converted
    │   ├── ParityError       a conversion differs from its source
    │   ├── CompatibilityError  this device cannot run this bundle
    │   └── GateError         a declared gate does not hold                exit 8
    ├── UnavailableError      a peer, broker or server does not answer         exit 6
    └── StorageError          a disk or database refuses                       exit 7

Rules: a ``code`` is stable and part of the interface (``trust.signature``); the message says
what happened to which thing, with what was got and what was expected; the ``hint`` says what to
do next. Raise errors; log them once, where they stop.
"""

from __future__ import annotations

from typing import ClassVar


class WhimbrelError(Exception):
    """Base of every error that Whimbrel raises on purpose.

    Args:
        message: one sentence: what happened, to which thing, what is still true.
        hint: what to do next, or None.
        code: stable dotted identifier; defaults to the class's own.
    """

    default_code: ClassVar[str] = "whimbrel"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[object, ...]:
        """Keep hint and code when an error crosses a process boundary."""
        return (_rebuild, (type(self), self.message, self.hint, self.code))

    def as_dict(self) -> dict[str, object]:
        """Return the error as it is printed by ``--json`` and by HTTP interfaces."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }


def _rebuild(
    cls: type[WhimbrelError], message: str, hint: str | None, code: str | None
) -> WhimbrelError:
    return cls(message, hint=hint, code=code)


class UsageError(WhimbrelError):
    """The caller asked for something that cannot be done as asked."""

    default_code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """A configuration file, environment variable or flag is wrong."""

    default_code = "config"


class InputError(WhimbrelError):
    """Bytes or values that came from outside are malformed."""

    default_code = "input"
    exit_code = 3


class BundleError(InputError):
    """A bundle is malformed, truncated or beyond its limits."""

    default_code = "bundle.format"


class ProfileError(InputError):
    """A profile is malformed, or two profiles do not fit together."""

    default_code = "profile.format"


class WireError(InputError):
    """A message is malformed, too large, or claims to be from somebody else."""

    default_code = "wire.format"


class RequestError(InputError):
    """An inference request has the wrong shape, type or size."""

    default_code = "request.format"


class TrustError(WhimbrelError):
    """A signature, key, digest, role or revision does not hold. Nothing was installed."""

    default_code = "trust.signature"
    exit_code = 4


class RefusedError(WhimbrelError):
    """Well-formed and trusted, but not good enough to go on."""

    default_code = "refused"
    exit_code = 5


class ConversionError(RefusedError):
    """A model cannot be converted to ONNX; the message names the cause."""

    default_code = "conversion.failed"


class ParityError(RefusedError):
    """A converted or installed model does not answer as its source did."""

    default_code = "parity.differs"


class CompatibilityError(RefusedError):
    """This device cannot run this bundle."""

    default_code = "compatibility"


class GateError(RefusedError):
    """A declared gate (data, quality, slices, latency, memory, size, skew) does not hold.

    Args:
        report: all gates with what was measured, where there is such a report; it does not cross
            a process boundary.
    """

    default_code = "gate.failed"
    exit_code = 8  # a pipeline tells "not good enough" from "cannot be converted"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        report: object = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.report = report

    def as_dict(self) -> dict[str, object]:
        """Return the error as it is printed by ``--json``, with the report."""
        if self.report is None:
            return super().as_dict()
        import msgspec

        return {**super().as_dict(), "report": msgspec.to_builtins(self.report)}


class UnavailableError(WhimbrelError):
    """A broker, server, repository or process does not answer. Trying again may help."""

    default_code = "unavailable"
    exit_code = 6
    retryable = True


class StorageError(WhimbrelError):
    """A disk or database refuses (full, read-only, corrupt). What was stored before still is."""

    default_code = "storage"
    exit_code = 7
