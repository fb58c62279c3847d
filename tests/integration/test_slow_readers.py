"""Readers that do not read cost their control plane little, and get everything when they read on."""

import pytest

from benchmarks import slow_readers


@pytest.mark.process
@pytest.mark.slow
async def test_silent_readers_cost_little_and_miss_nothing() -> None:
    # 200 readers and 100 MB are measured by `python -m benchmarks.slow_readers`.
    found = await slow_readers.measure(readers=30, megabytes=20, silent_s=9)
    assert (found.whole, found.odd) == (30, [])
    # Kept for each reader, what was written would be 600 MB.
    assert found.grown_bytes < 50_000_000
