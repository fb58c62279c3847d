"""Slots of keys and maps of slots."""

import pytest

from tailplane.broker.addresses import Address
from tailplane.broker.connection import Redirected, reply_error
from tailplane.broker.slots import SLOTS, SlotMap, slot_of

ASKED = Address("10.0.0.9", 7000)


@pytest.mark.parametrize(
    ("key", "same_as"),
    [
        ("p:task:{one}", "one"),
        ("p:stream:{one}", "one"),
        ("{one}{two}", "one"),
        ("a{b{c}d", "b{c"),
        ("{}a", None),
        ("a{", None),
        ("}a{", None),
    ],
)
def test_the_first_hash_tag_counts_unless_it_is_empty(key: str, same_as: str | None) -> None:
    assert (slot_of(key) == slot_of(same_as)) if same_as else (slot_of(key) == slot_of(key.encode()))
    assert 0 <= slot_of(key) < SLOTS


def test_slots_are_those_of_the_specification() -> None:
    assert slot_of("123456789") == 0x31C3 % SLOTS
    assert [slot_of(key) for key in ("foo", "bar", "hello", "")] == [12182, 5061, 866, 0]


def node(host: bytes | None, port: int, *facts: bytes) -> list[object]:
    return [host, port, b"id", list(facts)]


def test_a_map_has_primaries_replicas_and_holes() -> None:
    one, two, replica = Address("h1", 1), Address("h2", 2), Address("h3", 3)
    found = SlotMap.parse(
        [
            [0, 99, node(b"h1", 1), node(b"h3", 3)],
            [200, 299, node(b"h1", 1), node(b"h3", 3)],
            [300, SLOTS - 1, node(b"h2", 2)],
        ],
        ASKED,
    )
    assert [found.owners[slot] for slot in (0, 99, 100, 199, 200, 300, SLOTS - 1)] == [
        one, one, None, None, one, two, two
    ]  # fmt: skip
    assert found.replicas == {one: [replica], two: []}
    assert found.servers == [one, two, replica]
    assert found.covered == SLOTS - 100


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (node(b"", 1), Address(ASKED.host, 1)),
        (node(None, 1), Address(ASKED.host, 1)),
        (node(b"::1", 1), Address("::1", 1)),
        (node(b"?", 1, b"ip", b"10.0.0.1"), Address("10.0.0.1", 1)),
        (node(b"name.example", 1, b"ip", b"10.0.0.1"), Address("name.example", 1)),
        (node(b"?", 1), None),
    ],
)
def test_a_host_that_is_left_out_is_the_one_that_was_asked(said: list[object], address: Address | None) -> None:
    assert SlotMap.parse([[0, 0, said]], ASKED).owners[0] == address


@pytest.mark.parametrize(
    ("text", "is_ask", "to"),
    [
        ("MOVED 5 10.0.0.1:7001", False, Address("10.0.0.1", 7001)),
        ("ASK 5 10.0.0.1:7001", True, Address("10.0.0.1", 7001)),
        ("MOVED 5 :7001", False, Address("", 7001)),
        ("MOVED 5 ::1:7001", False, Address("::1", 7001)),
        ("MOVED 5 name.example:7001", False, Address("name.example", 7001)),
    ],
)
def test_a_redirection_says_where(text: str, is_ask: bool, to: Address) -> None:
    error = reply_error(text)
    assert isinstance(error, Redirected)
    assert (error.is_ask, error.slot, error.to) == (is_ask, 5, to)
