"""The environment of a packing: Python and the packages that take part, with what they ask for.

These are the framework and the converter of the model, the packages of the proof, and everything
that those require without a condition. What depends on the platform is left out: the same lock
file gives the same list on another machine.
"""

from __future__ import annotations

import functools
import platform
import re
from importlib import metadata

import msgspec
from packaging import licenses
from packaging.requirements import InvalidRequirement, Requirement

# What these require beyond the packages of the proof (terminals, repositories) makes no bytes.
_OWN = ("whimbrel-packager", "whimbrel-core")
# Names of frameworks and converters that are not those of what has to be installed.
_INSTALLED = {
    "pytorch": ("torch",),
    "torch.onnx": ("torch", "onnxscript"),
    "sklearn": ("scikit-learn",),
    "keras": ("keras", "tensorflow"),
}
_ALWAYS = (*_OWN, "numpy", "onnx", "onnxruntime")
_MAX_LICENCE_CHARS = 80  # beyond it is the licence itself
_PLATFORM = ("sys_platform", "platform_", "os_name", "implementation_name")
# Texts that packages of before PEP 639 use for licences whose name is without doubt.
_SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "mit license": "MIT",
    "3-clause bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
}


class Package(msgspec.Struct, frozen=True):
    """An installed distribution.

    Args:
        name: as its project spells it, in PyPI's normal form.
        version: of it.
        requires: names of packages of the same environment that it requires.
        licence: an SPDX expression where it can be understood, else as it is stated; or "".
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    licence: str = ""


class Environment(msgspec.Struct, frozen=True):
    """Python's version, and packages in the order of their names.

    Args:
        python: its version.
        packages: all that take part.
        used: names of those that were asked for: what converts, and what runs.
    """

    python: str
    packages: tuple[Package, ...]
    used: tuple[str, ...]

    @property
    def versions(self) -> dict[str, str]:
        """Versions by name."""
        return {package.name: package.version for package in self.packages}


def of(*frameworks: str) -> Environment:
    """Return the environment of packing a model of some frameworks and converters."""
    found: dict[str, Package] = {}
    named = [name for stated in frameworks for name in _INSTALLED.get(stated, (stated,))]
    waiting = [*_ALWAYS, *named]
    used = [package.name for name in waiting if (package := _package(name))]
    while waiting:
        package = _package(waiting.pop())
        if package is not None and package.name not in found:
            found[package.name] = package
            if package.name not in _OWN:
                waiting += package.requires
    listed = [
        msgspec.structs.replace(
            package, requires=tuple(name for name in package.requires if name in found)
        )
        for _, package in sorted(found.items())
    ]
    return Environment(platform.python_version(), tuple(listed), tuple(dict.fromkeys(used)))


def expression(text: str) -> str:
    """Return a licence as an SPDX expression in its canonical spelling, or "" if it is none.

    >>> expression("apache-2.0 or mit")
    'Apache-2.0 OR MIT'
    >>> expression("ask the owner")
    ''
    """
    try:
        return str(licenses.canonicalize_license_expression(_SPDX.get(text.lower(), text)))
    except licenses.InvalidLicenseExpression:
        return ""


@functools.cache
def _package(name: str) -> Package | None:
    try:
        found = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        # A framework has the name of its module, which another distribution may provide.
        others = _modules().get(name, ())
        if not others:
            return None
        found = metadata.distribution(min(others))
    required = set()
    for line in found.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if _unconditional(requirement):
            required.add(_normal(requirement.name))
    required -= {_normal(found.name)}
    return Package(_normal(found.name), found.version, tuple(sorted(required)), _licence(found))


def _unconditional(requirement: Requirement) -> bool:
    """Return whether a requirement holds on every platform and without extras."""
    marker = requirement.marker
    if marker is None:
        return True
    text = str(marker)
    return not any(word in text for word in _PLATFORM) and marker.evaluate({"extra": ""})


def _licence(found: metadata.Distribution) -> str:
    named = [
        line.rpartition("::")[2].strip()
        for line in found.metadata.get_all("Classifier") or ()
        if line.startswith("License :: OSI Approved ::")
    ]
    stated = [
        text.strip()
        for key in ("License-Expression", "License")
        for text in found.metadata.get_all(key) or ()
    ]
    candidates = [text for text in (*stated, *named) if text and "\n" not in text]
    return next((known for text in candidates if (known := expression(text))), "") or (
        candidates[0] if candidates and len(candidates[0]) <= _MAX_LICENCE_CHARS else ""
    )


@functools.cache
def _modules() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
