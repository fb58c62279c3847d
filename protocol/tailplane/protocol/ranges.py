"""Ranges of a stream's events, by seq: which of them stand, and which are superseded. No I/O.

A list of ranges is ordered and has no two that touch: `[(1, 9), (14, 20)]`, ends included. The record of a task keeps
one as a flat msgpack array, `[1, 9, 14, 20]`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from tailplane.protocol import codec

Range = tuple[int, int]


def add(ranges: list[Range], first: int, last: int) -> None:
    """Put the events `first` to `last` into a list of ranges; none if `last` is below `first`."""
    if last < first:
        return
    # Those that overlap the new one, or touch it, become one with it.
    begin = bisect_left(ranges, first - 1, key=lambda each: each[1])
    end = bisect_right(ranges, last + 1, key=lambda each: each[0])
    if begin < end:
        first, last = min(first, ranges[begin][0]), max(last, ranges[end - 1][1])
    ranges[begin:end] = [(first, last)]


def joined(ranges: Iterable[Sequence[int]]) -> list[Range]:
    """Return any ranges as an ordered list of them."""
    found: list[Range] = []
    for first, last in ranges:
        add(found, first, last)
    return found


def holes(ranges: Sequence[Range], first: int, last: int) -> list[Range]:
    """Return what a list of ranges lacks of the events `first` to `last`."""
    found: list[Range] = []
    for begin, end in ranges:
        if begin > first:
            found.append((first, min(begin - 1, last)))
        first = max(first, end + 1)
        if first > last:
            break
    if first <= last:
        found.append((first, last))
    return [(begin, end) for begin, end in found if begin <= end]


def pack(ranges: Iterable[Range]) -> bytes:
    """Return a list of ranges as a record keeps it."""
    return codec.pack([seq for each in ranges for seq in each], check=False)


def unpack(raw: bytes | None) -> list[Range]:
    """Return the list of ranges that a record keeps; of nothing, none."""
    flat = codec.unpack(raw) if raw else []
    return list(zip(flat[::2], flat[1::2], strict=True))
