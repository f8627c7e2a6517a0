"""Every reader of foreign bytes: it accepts them, or refuses them by name, within its memory."""

from __future__ import annotations

import pathlib
import random
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.fuzz import targets
from tests.core.fuzz.targets import TARGETS, Target

MIB = 1 << 20
FOUND = pathlib.Path(__file__).parent / "found"  # by ``make fuzz``


@pytest.mark.parametrize("name", TARGETS)
def test_valid_bytes_are_accepted(name: str) -> None:
    assert all(TARGETS[name](seed) for seed in TARGETS[name].seeds)


@pytest.mark.parametrize("name", TARGETS)
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_bytes_are_accepted_or_refused_by_name(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    damaged = data.draw(damage(data.draw(st.sampled_from(target.seeds))))
    target(damaged)


@pytest.mark.parametrize("name", TARGETS)
@given(noise=st.binary(max_size=300))
def test_noise_is_accepted_or_refused_by_name(name: str, noise: bytes) -> None:
    TARGETS[name](noise)


def peak_of(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        target(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", TARGETS)
def test_memory_stays_near_the_bytes_that_are_there(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        # Every length in these formats is somewhere a byte of 0xff makes enormous. Where the places
        # begin is drawn, so that many runs try them all.
        step = max(1, len(seed) // 50)
        for at in range(random.randrange(step), len(seed), step):
            grown = seed[:at] + b"\xff" * 4 + seed[at + 4 :]
            limit = 4 * MIB + 40 * len(seed)
            # Again: a first import, or another test's thread, may have taken it; a reader repeats it.
            peaks = [peak_of(target, grown)]
            if peaks[0] >= limit:
                peaks.append(peak_of(target, grown))
            assert min(peaks) < limit, f"{peaks} bytes at {at}"


@pytest.mark.parametrize("path", sorted(FOUND.glob("*.bin")), ids=lambda path: path.stem)
def test_what_once_crashed_a_reader_is_refused(path: pathlib.Path) -> None:
    name = path.stem.rpartition("-")[0]
    assert not TARGETS[name](path.read_bytes())


def test_a_bomb_is_not_inflated_beyond_its_limit() -> None:
    import zlib

    from whimbrel_core.profile.encoding import fields

    bomb = fields.MAGIC + bytes(32) + zlib.compress(bytes(32 * MIB), 9)
    assert len(bomb) < fields.MAX_ENCODED_BYTES  # or its length would be reason enough
    assert not TARGETS["window"](bomb)
    peak = min(peak_of(TARGETS["window"], bomb) for _ in range(2))
    assert peak < 3 * fields.MAX_PLAIN_BYTES  # what is inflated, once more as it grows


def damage(seed: bytes) -> st.SearchStrategy[bytes]:
    """Return strategies that cut, flip, splice and repeat parts of valid bytes."""
    places = st.integers(0, max(0, len(seed) - 1))

    def flip(change: tuple[int, int]) -> bytes:
        at, bits = change
        return seed[:at] + bytes([seed[at] ^ bits]) + seed[at + 1 :]

    def splice(change: tuple[int, bytes, int]) -> bytes:
        at, noise, dropped = change
        return seed[:at] + noise + seed[at + dropped :]

    def repeat(change: tuple[int, int, int]) -> bytes:
        at, length, times = change
        return seed[:at] + seed[at : at + length] * times + seed[at + length :]

    return st.one_of(
        places.map(lambda at: seed[:at]),
        st.tuples(places, st.integers(1, 255)).map(flip),
        st.tuples(places, st.binary(min_size=1, max_size=12), st.integers(0, 12)).map(splice),
        st.tuples(places, st.integers(1, 64), st.integers(0, 4)).map(repeat),
    )


def test_targets_name_every_reader_of_foreign_bytes() -> None:
    # A target whose seeds stop being valid would fuzz nothing but its first check.
    assert set(TARGETS) >= {"archive", "bundle", "manifest", "parity", "signature", "window"}
    assert targets.BUNDLE[:2] == b"PK"
