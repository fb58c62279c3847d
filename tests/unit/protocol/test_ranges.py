"""Ranges of seqs: lists of them are sets of numbers, in few words."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import codec, ranges
from tailplane.protocol.ranges import Range

seqs = st.integers(1, 60)
pieces = st.lists(st.tuples(seqs, seqs), max_size=20)


def numbers(found: list[Range]) -> set[int]:
    return {seq for first, last in found for seq in range(first, last + 1)}


def assert_in_order(found: list[Range]) -> None:
    assert all(first <= last for first, last in found)
    # No two of them touch.
    assert all(left[1] + 1 < right[0] for left, right in pairwise(found))


@given(pieces)
def test_what_is_added_is_in_whatever_order_it_comes(added: list[Range]) -> None:
    found: list[Range] = []
    for first, last in added:
        ranges.add(found, first, last)
        assert_in_order(found)
    assert numbers(found) == numbers(added)
    assert ranges.joined(added) == found


@given(pieces, seqs, seqs)
def test_holes_are_what_is_missing(added: list[Range], first: int, last: int) -> None:
    stand = ranges.joined(added)
    found = ranges.holes(stand, first, last)
    assert_in_order(found)
    assert numbers(found) == set(range(first, last + 1)) - numbers(stand)


@given(pieces)
def test_a_record_keeps_them_as_one_flat_array(added: list[Range]) -> None:
    found = ranges.joined(added)
    packed = ranges.pack(found)
    assert ranges.unpack(packed) == found
    assert codec.unpack(packed) == [seq for each in found for seq in each]


def test_of_nothing_there_are_none() -> None:
    assert ranges.unpack(None) == ranges.unpack(b"") == ranges.unpack(ranges.pack([])) == []
    assert ranges.holes([], 1, 0) == []
    assert ranges.holes([(5, 9)], 1, 0) == []
