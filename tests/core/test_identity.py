"""Names that cross boundaries are parsed once, strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core import identity
from whimbrel_core.errors import InputError


@pytest.mark.parametrize("text", ["ewr", "till-0042", "a" * 63])
def test_a_device_id_that_is_legal_in_mqtt_and_in_a_certificate_is_accepted(text: str) -> None:
    assert identity.device_id(text) == text


@pytest.mark.parametrize(
    "text", ["", "ab", "EWR", "a/b", "a+b", "-ab", "a.b", "a" * 64, "ewr\n", "é-device"]
)
def test_a_device_id_that_could_escape_its_topic_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(InputError) as caught:
        identity.device_id(text)
    assert caught.value.code == "input.device_id"
    assert "lower-case" in (caught.value.hint or "")


def test_versions_sort_by_semver_precedence() -> None:
    # The order that the specification gives as its example (SemVer 2.0, clause 11.4.4).
    ordered = [
        "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
        "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.1.0", "1.10.0", "2.0.0",
    ]  # fmt: skip
    versions = [identity.version(text) for text in reversed(ordered)]
    assert sorted(versions, key=identity.version_key) == ordered


@pytest.mark.parametrize("text", ["1", "1.0", "v1.0.0", "01.0.0", "1.0.0-", "1.0.0+", "1.0.0 "])
def test_a_version_that_is_not_semver_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="version"):
        identity.version(text)


@given(st.text(max_size=80))
def test_any_text_is_either_returned_unchanged_or_refused(text: str) -> None:
    for parse in (
        identity.device_id,
        identity.slot_name,
        identity.model_name,
        identity.version,
        identity.digest,
        identity.epoch,
    ):
        try:
            assert parse(text) == text
        except InputError as error:  # noqa: PERF203 - each parser by itself
            assert error.hint  # noqa: PT017 - either outcome is right, silence is not
