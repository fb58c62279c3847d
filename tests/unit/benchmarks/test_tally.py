"""What a tally finds in a stream."""

import pytest

from benchmarks.tally import Tally


def tally_of(numbers: list[int], expected: int) -> Tally:
    tally = Tally(expected)
    for i in numbers:
        tally.note({"i": i})
    return tally


@pytest.mark.parametrize(
    ("numbers", "count", "lost", "doubled"),
    [
        ([0, 1, 2, 3], 4, 0, 0),
        ([0, 2, 3], 3, 1, 0),
        ([0, 1], 2, 2, 0),
        ([0, 1, 1, 2, 3], 4, 0, 1),
        ([0, 1, 2, 1, 2, 3], 4, 0, 2),
        ([], 0, 4, 0),
    ],
)
def test_what_is_lost_and_doubled_is_counted(numbers: list[int], count: int, lost: int, doubled: int):
    tally = tally_of(numbers, 4)

    assert (tally.count, tally.lost, tally.doubled) == (count, lost, doubled)


def test_first_and_last_are_timed():
    tally = tally_of([0, 1, 2], 3)

    assert 0 < tally.first_at <= tally.last_at
