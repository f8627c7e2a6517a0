"""New words of a category, told to the server only once so many devices have met them.

A device counts a word that the vocabulary lacks as `other`. What the word is, it may not tell by
itself: a name that one device met may be somebody's. So it *seals* it: the word is encrypted with a
key that follows from the word, and the key is split into shares of which ``k`` are needed
(Shamir's scheme over the prime 2^521 − 1). A device sends its share and the sealed word; the share
depends on the device, the rest on the word alone. Fewer than ``k`` devices' shares say nothing of
the key; with ``k`` of them the server reads the word. Nothing is asked back, so that it works for
devices that are heard once a month. (After Davidson et al., "STAR: Secret Sharing for Private
Threshold Aggregation Reporting", CCS 2022, without its randomness server.)

What it does not hide: that some device met *a* new word, that two devices met the same one, and a
word that the server guesses: it can seal its guess and compare. Words that can be guessed from a
short list are no secrets here.

The cipher is SHAKE-256 as a stream, with a MAC by SHA3-256 over the sealed bytes; every word has a
key of its own, used once.
"""

from __future__ import annotations

import hashlib
import hmac
from itertools import combinations, islice
from typing import TYPE_CHECKING

import msgspec

from whimbrel_core.errors import ProfileError
from whimbrel_core.profile.feature import MAX_WORD_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_DEVICES = 64  # a threshold above it costs a polynomial of that degree per word
_PRIME = (1 << 521) - 1
_NUMBER = 66  # bytes of a number below the prime
_TAG, _MAC = 8, 16
_PAD = 32  # sealed words tell their length in steps of this
_MAX_SEALED = _MAC + 4 * MAX_WORD_CHARS + _PAD
_TRIES = 32


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """One device's telling of one word that it met.

    Args:
        tag: names the word without saying it; equal words of one feature have equal tags.
        point: where the device's share lies; one device always has the same.
        share: the key's polynomial there.
        text: the word, encrypted.
    """

    tag: bytes
    point: bytes
    share: bytes
    text: bytes


def seal(word: str, *, profile_id: str, feature: str, device: str, k: int) -> Sealed:
    """Return ``word`` so that ``k`` devices' tellings reveal it.

    Args:
        word: 1 to `MAX_WORD_CHARS` characters.
        profile_id: of the layout; words of two model versions are told apart.
        feature: name of the categorical feature.
        device: who tells it.
        k: devices that are needed, 1 to `MAX_DEVICES`.

    Raises:
        ProfileError: no such word can be told, or no such ``k``.
    """
    if not 1 <= k <= MAX_DEVICES:
        raise ProfileError(f"a word is released after 1 to {MAX_DEVICES} devices, not {k}")
    if not 1 <= len(word) <= MAX_WORD_CHARS:
        raise ProfileError(f"a word has 1 to {MAX_WORD_CHARS} characters, this one {len(word)}")
    seed = _hash(b"word", profile_id.encode(), feature.encode(), str(k).encode(), _utf8(word))
    coefficients = [_number(b"coefficient", seed, bytes([n])) for n in range(k)]
    point = _hash(b"point", profile_id.encode(), feature.encode(), device.encode())
    x, y = int.from_bytes(point, "big"), 0
    for coefficient in reversed(coefficients):
        y = (y * x + coefficient) % _PRIME
    key = _key(coefficients[0])
    plain = _utf8(word)
    plain = bytes([len(plain) >> 8, len(plain) & 0xFF]) + plain
    plain += bytes(-len(plain) % _PAD)
    text = _xor(plain, key)
    return Sealed(
        tag=_hash(b"tag", seed)[:_TAG],
        point=point,
        share=y.to_bytes(_NUMBER, "big"),
        text=_mac(key, text) + text,
    )


def require_sound(sealed: Sealed) -> None:
    """Require the sizes that `seal` gives. Raises `ProfileError`."""
    sizes = (len(sealed.tag), len(sealed.point), len(sealed.share))
    length = len(sealed.text) - _MAC
    if sizes != (_TAG, 32, _NUMBER) or not _PAD <= length <= _MAX_SEALED or length % _PAD:
        raise ProfileError("a sealed word has parts of other sizes than it should")


def reveal(told: Iterable[Sealed], *, k: int) -> str | None:
    """Return the word that ``k`` different devices told, or None while there are fewer.

    A share that is wrong spoils every set that it is in: up to `_TRIES` sets are tried, so that a
    few devices that lie cannot hide a word that many met.

    Args:
        told: tellings of one tag, by any number of devices.
        k: as for `seal`.
    """
    by_point = {one.point: one for one in told}
    for chosen in islice(combinations(by_point.values(), k), _TRIES):
        key = _key(_at_zero(chosen))
        for one in chosen:
            mac, text = one.text[:_MAC], one.text[_MAC:]
            if hmac.compare_digest(mac, _mac(key, text)):
                return _read(_xor(text, key))
    return None


def _at_zero(chosen: Sequence[Sealed]) -> int:
    """Return the polynomial through the shares at 0 (Lagrange)."""
    points = [
        (int.from_bytes(one.point, "big"), int.from_bytes(one.share, "big")) for one in chosen
    ]
    total = 0
    for i, (x, y) in enumerate(points):
        above = below = 1
        for j, (other, _) in enumerate(points):
            if i != j:
                above = above * other % _PRIME
                below = below * (other - x) % _PRIME
        total += y * above * pow(below, -1, _PRIME)
    return total % _PRIME


def _read(plain: bytes) -> str | None:
    length = int.from_bytes(plain[:2], "big")
    try:
        return plain[2 : 2 + length].decode()
    except UnicodeDecodeError:
        return None


def _key(secret: int) -> bytes:
    return _hash(b"key", secret.to_bytes(_NUMBER, "big"))


def _mac(key: bytes, text: bytes) -> bytes:
    return _hash(b"mac", key, text)[:_MAC]


def _xor(text: bytes, key: bytes) -> bytes:
    stream = hashlib.shake_256(b"whimbrel/stream" + key).digest(len(text))
    return bytes(a ^ b for a, b in zip(text, stream, strict=True))


def _number(*parts: bytes) -> int:
    wide = hashlib.shake_256(_joined(parts)).digest(_NUMBER + 16)
    return int.from_bytes(wide, "big") % _PRIME


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha3_256(_joined(parts)).digest()


def _joined(parts: Iterable[bytes]) -> bytes:
    """Return ``parts`` so that no two sequences of parts look alike."""
    return b"whimbrel/words/1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _utf8(word: str) -> bytes:
    return word.encode("utf-8", "replace")
