"""Describe texts by their characters, in whatever language.

- characters, words: how many; words are what white space separates, so that Chinese or Thai have
  few and long ones. word_length: mean characters of a word;
- letters (with the marks that belong to them), digits, punctuation (with symbols), whitespace,
  upper_case, non_ascii: shares of all characters, by Unicode's general categories;
- beyond_latin: share of letters that are of another script than Latin;
- repeated: share of characters that are the same as the one before.

A missing text is NaN throughout; an empty one has no characters and no words, and no shares. Of a
long text, the first 16,384 characters are looked at; ``characters`` is always of all of it.
"""

from __future__ import annotations

import unicodedata
from itertools import islice
from operator import eq
from typing import TYPE_CHECKING, Any

import numpy as np

from whimbrel_core.errors import ProfileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whimbrel_core.profile.descriptors.declared import Text

LONGEST = 16_384
_SHORT = 1_000  # characters, from where numpy is faster than Python for a single text
_BLOCK = 1 << 16  # characters at a time
_CLASSES = tuple(1 << i for i in range(7))
_LETTER, _DIGIT, _PUNCTUATION, _SPACE, _UPPER, _BEYOND_ASCII, _OTHER_SCRIPT = _CLASSES
_KNOWN = 1 << 7
_LANE = 16  # bits for each of the counts that are added up as one number; more than `_SHORT` takes
_COLUMNS = 11
_NAN = float("nan")
_CODES = 0x110000


class _Classes(dict[str, int]):
    """What each character is: a count of one for each of its classes, in `_LANE` bits apiece.

    Found out when a character is first seen: all of Unicode would take a second at start. Nobody
    can make it large: there are no more than some 150,000 characters.
    """

    def __missing__(self, character: str) -> int:
        flags = _class_of(character)
        ones = (1 << (i * _LANE) for i, bit in enumerate(_CLASSES) if flags & bit)
        self[character] = counts = sum(ones)
        return counts


_classes = _Classes()
# What each is by code point, as flags; pages of it that no text asks for are never made.
_known: NDArray[np.uint8] = np.zeros(_CODES, np.uint8)


class Describer:
    """Makes the columns of one `Text`."""

    def __init__(self, declared: Text) -> None:
        self._declared = declared

    def __call__(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, 11) float32 of texts (n,) or (n, 1): str, bytes (UTF-8), None or NaN.

        Raises:
            ProfileError: several columns, or something that is no string.
        """
        if tensor.dtype.kind not in "OSUT":
            raise ProfileError(
                f"tensor {self._declared.tensor!r} is described as text and holds {tensor.dtype} "
                "numbers",
                code="profile.dtype",
            )
        if not tensor.ndim or tensor.size != len(tensor):
            raise ProfileError(
                f"tensor {self._declared.tensor!r} has the shape {tensor.shape}; one text a row is "
                "needed",
                code="profile.shape",
            )
        texts = [self._text(value) for value in tensor.reshape(-1).tolist()]
        if len(texts) == 1 and len(texts[0] or "") <= _SHORT:
            return np.array([_one(texts[0])], np.float32)
        made = np.full((len(texts), len(self._declared.columns)), np.nan, np.float32)
        some: list[int] = []
        characters = 0
        for index, text in enumerate(texts):
            if text is None:
                continue
            some.append(index)
            characters += min(len(text), LONGEST)
            if characters >= _BLOCK:
                made[some] = _described([texts[i] or "" for i in some])
                some, characters = [], 0
        if some:
            made[some] = _described([texts[i] or "" for i in some])
        return made

    def _text(self, value: object) -> str | None:
        if isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if value is None or value != value:  # noqa: PLR0124 — NaN
            return None
        raise ProfileError(
            f"tensor {self._declared.tensor!r} is described as text and holds a "
            f"{type(value).__name__}",
            code="profile.dtype",
        )


def _one(text: str | None) -> list[float]:
    """Return the columns of one text: as `_described`, in a sixth of the time."""
    if text is None:
        return [_NAN] * _COLUMNS
    length = len(text)
    words = len(text.split())
    if not length:
        return [0.0, 0.0, *([_NAN] * (_COLUMNS - 2))]
    packed = sum(map(_classes.__getitem__, text))
    counts = [(packed >> at) & 0xFFFF for at in range(0, len(_CLASSES) * _LANE, _LANE)]
    letters, space, other = counts[0], counts[3], counts.pop()
    return [
        length,
        words,
        (length - space) / words if words else _NAN,
        *[count / length for count in counts],
        other / letters if letters else _NAN,
        sum(map(eq, text, islice(text, 1, None))) / length,
    ]


def _described(texts: list[str]) -> NDArray[np.float32]:
    """Return the columns of ``texts``."""
    # Each with a character behind it, which is of no class: no segment is empty then.
    joined = "".join([f"{text[:LONGEST]}\n" for text in texts])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
    lengths = np.array([min(len(text), LONGEST) for text in texts])
    ends = np.cumsum(lengths + 1) - 1
    starts = ends - lengths
    flags = _flags(codes)
    flags[ends] = 0

    def count(which: NDArray[Any]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.add.reduceat(which, starts, dtype=np.int64).astype(float)
        return found

    seen = [count((flags & bit) != 0) for bit in _CLASSES]
    letters, space, other = seen[0], seen[3], seen.pop()
    filled = (flags & _SPACE) == 0
    filled[ends] = False
    first = filled.copy()
    first[1:] &= ~filled[:-1]
    words = count(first)
    again = np.zeros(len(codes), bool)
    np.equal(codes[1:], codes[:-1], out=again[1:])
    again[starts] = again[ends] = False
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.column_stack(
            [
                np.array([len(text) for text in texts]),
                words,
                (lengths - space) / np.where(words > 0, words, np.nan),
                *(counted / lengths for counted in seen),
                other / letters,
                count(again) / lengths,
            ]
        ).astype(np.float32)


def _flags(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return what each character is, `_KNOWN` with any of the others."""
    flags: NDArray[np.uint8] = _known[codes]
    if not flags.all():
        for code in np.unique(codes[flags == 0]).tolist():
            _known[code] = _class_of(chr(code))
        flags = _known[codes]
    return flags


def _class_of(character: str) -> int:
    category = unicodedata.category(character)
    flags = _KNOWN
    if category[0] in "LM":
        flags |= _LETTER
        if category[0] == "L" and not unicodedata.name(character, "").startswith(LATIN):
            flags |= _OTHER_SCRIPT
    elif category[0] == "N":
        flags |= _DIGIT
    elif category[0] in "PS":
        flags |= _PUNCTUATION
    if character.isspace():
        flags |= _SPACE
    if category in {"Lu", "Lt"}:
        flags |= _UPPER
    if not character.isascii():
        flags |= _BEYOND_ASCII
    return flags


# Ordinal indicators and full-width letters are Latin by another name.
LATIN = ("LATIN ", "FEMININE ORDINAL", "MASCULINE ORDINAL", "FULLWIDTH LATIN", "MODIFIER LETTER")
