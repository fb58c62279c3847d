"""A small share of `make fuzz`, the same inputs each time: it ends in seconds, and says when a promise is broken."""

import struct

import msgpack
import pytest

from tests.fuzz import report
from tests.fuzz.measure import BASE_BYTES, Outcome, Target, run
from tests.fuzz.mutator import Mutator
from tests.fuzz.targets import TARGETS, Reads

INPUTS = 400
SEED = 20261129


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_breaks_a_promise(target: Target) -> None:
    outcome = run(target, INPUTS, SEED)

    assert [(finding.what, finding.data) for finding in outcome.findings] == []
    assert outcome.inputs == INPUTS
    # Inputs that are all refused at once would test nothing.
    assert outcome.taken >= 3


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, second = (
        [target.make(mutator) for target in TARGETS for _ in range(20)] for mutator in (Mutator(7), Mutator(7))
    )

    assert first == second


def _bad(reads: object) -> Reads:
    return Reads("bad", lambda mutator: [mutator.packed], reads)  # type: ignore[arg-type]


def test_what_a_target_raises_is_found() -> None:
    def fails(data: bytes, _: Mutator) -> bool:
        struct.unpack(">Q", data)
        return True

    found = run(_bad(fails), 50, 1).findings

    assert "struct.error" in found[0].what


def test_memory_without_bound_is_found() -> None:
    def grows(data: bytes, _: Mutator) -> bool:
        return bool(bytearray(BASE_BYTES + 1_000 * len(data) + 1_000_000))

    assert "bytes for" in run(_bad(grows), 5, 1).findings[0].what


def test_the_bounds_would_find_a_bomb_that_nothing_stops() -> None:
    def unpacks(_: bytes, __: Mutator) -> bool:
        return bool(msgpack.unpackb(b"\xdd\x00\x01\x86\xa0" + b"\x80" * 100_000))

    assert run(_bad(unpacks), 1, 1).findings


def test_the_table_replaces_the_one_before() -> None:
    page = f"# A page\n\n{report.BEGIN}\n\nold\n{report.END}\n\n## More\n"

    made = report.put_into(page, report.table([Outcome("cron", 1000, 10, 1.5, 0.01, 1024 * 1024)], 7))

    assert "| cron | 1,000 | 10 | 1.5 | 10 | 1.0 | 0 |" in made
    assert made.startswith("# A page\n")
    assert made.endswith("## More\n")
    assert "old" not in made
