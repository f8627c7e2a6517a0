"""Messages and assignments: round trips, limits, and who may say what."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel_core.errors import TrustError, WireError
from whimbrel_core.identity import device_id
from whimbrel_core.signing import dsse
from whimbrel_core.signing.keys import PrivateKey
from whimbrel_core.wire import assignment, codec, messages, topics

EWR = device_id("ewr")
EPOCH = "0123456789abcdef"
WINDOW = messages.WindowMessage(
    device="ewr", epoch=EPOCH, seq=7, slot="flights", name="flights", version="1.0.0",
    digest="ab" * 32, profile_id="cd" * 32, start_ms=0, end_ms=86_400_000, rows=300,
    payload=b"counts",
)  # fmt: skip
EXAMPLES: list[messages.UpMessage | messages.DownMessage] = [
    messages.Life("ewr", alive=True, incarnation=3, epoch=EPOCH),
    messages.State("ewr", incarnation=3, revision=2, slots=(messages.SlotReport("f", "serving"),)),
    WINDOW,
    messages.EventMessage("ewr", EPOCH, 8, 0, "update.committed", "flights", "ab" * 32),
    messages.Ack(EPOCH, 7, ((9, 11),)),
    messages.ServerLife(alive=True, incarnation=1, drain_per_s=500.0, spread_s=2.0),
    messages.Hint("sync"),
]
KEY = PrivateKey.generate()
WANTED = assignment.Assignment(
    device="ewr",
    revision=4,
    slots={"flights": assignment.SlotAssignment("bundles/flights/f.whim", "ab" * 32, 100)},
)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message: messages.UpMessage | messages.DownMessage) -> None:
    assert codec.decode(type(message), codec.encode(message)) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_reader_passes_over_fields_that_a_newer_writer_adds(
    message: messages.UpMessage | messages.DownMessage,
) -> None:
    tree = msgspec.msgpack.decode(codec.encode(message))
    assert codec.decode(type(message), msgspec.msgpack.encode({**tree, "later": 1})) == message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"device": "ewr/#"}, "wire.value"),
        ({"epoch": "zz"}, "wire.value"),
        ({"seq": 0}, "wire.value"),
        ({"seq": 1 << 63}, "wire.value"),
        ({"end_ms": 0}, "wire.value"),
        ({"rows": -1}, "wire.value"),
        ({"merged": 0}, "wire.value"),
        ({"digest": "x"}, "wire.value"),
        ({"rows": "many"}, "wire.format"),
        ({"type": "life"}, "wire.format"),
    ],
)
def test_a_value_that_the_protocol_forbids_is_refused(change: dict[str, object], code: str) -> None:
    tree = msgspec.msgpack.decode(codec.encode(WINDOW))
    with pytest.raises(WireError) as caught:
        codec.decode(messages.WindowMessage, msgspec.msgpack.encode({**tree, **change}))
    assert caught.value.code == code


def test_a_message_over_32_kib_is_refused_on_both_sides() -> None:
    large = msgspec.structs.replace(WINDOW, payload=bytes(40_000))
    with pytest.raises(WireError, match="32768"):
        codec.encode(large)
    with pytest.raises(WireError, match="32768"):
        codec.decode(messages.WindowMessage, msgspec.msgpack.encode(large))


@given(st.binary(max_size=400))
def test_any_bytes_decode_to_a_message_or_are_refused(data: bytes) -> None:
    for message in EXAMPLES:
        try:
            assert type(codec.decode(type(message), data)) is type(message)
        except WireError as error:  # noqa: PERF203 - each message by itself
            assert error.message  # noqa: PT017 - either outcome is right


@given(st.text(max_size=60))
def test_only_topics_of_devices_are_parsed(text: str) -> None:
    with pytest.raises(WireError):
        topics.parse_up(text)
    with pytest.raises(WireError):
        topics.parse_up(f"whimbrel/v1/{text}/up/nothing")


def test_a_topic_and_its_parts_are_the_same_thing() -> None:
    assert topics.parse_up(topics.up(EWR, "window")) == ("ewr", "window")
    assert topics.down(EWR, "ack") == "whimbrel/v1/ewr/down/ack"


def test_an_assignment_reaches_the_device_it_was_signed_for() -> None:
    data = assignment.sign(WANTED, KEY)
    got = assignment.verify(data, [KEY.public], device="ewr", revision_floor=4)
    assert got == WANTED


@pytest.mark.parametrize(
    ("device", "floor", "code"),
    [("jfk", 0, "trust.device"), ("ewr", 5, "trust.revision")],
)
def test_an_assignment_for_another_device_or_an_old_one_is_refused(
    device: str, floor: int, code: str
) -> None:
    data = assignment.sign(WANTED, KEY)
    with pytest.raises(TrustError) as caught:
        assignment.verify(data, [KEY.public], device=device, revision_floor=floor)
    assert caught.value.code == code


def test_an_assignment_by_another_key_or_for_another_purpose_is_refused() -> None:
    with pytest.raises(TrustError, match="no trusted key"):
        assignment.verify(
            assignment.sign(WANTED, PrivateKey.generate()), [KEY.public], device="ewr",
            revision_floor=0,
        )  # fmt: skip
    envelope = dsse.sign(msgspec.json.encode(WANTED), "application/vnd.in-toto+json", KEY)
    with pytest.raises(TrustError, match="signed as"):
        assignment.verify(
            msgspec.json.encode(envelope), [KEY.public], device="ewr", revision_floor=0
        )


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_an_assignment(data: bytes) -> None:
    with pytest.raises((WireError, TrustError)):
        assignment.verify(data, [KEY.public], device="ewr", revision_floor=0)


def test_an_assignment_too_large_for_the_protocol_is_refused_when_it_is_signed() -> None:
    slot = next(iter(WANTED.slots.values()))
    large = msgspec.structs.replace(WANTED, slots={f"slot-{i}": slot for i in range(60)})
    with pytest.raises(WireError, match="8192"):
        assignment.sign(large, KEY)
