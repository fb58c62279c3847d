"""Half a minute of chaos, as `make chaos` inflicts it for longer."""

import pytest

from tests.chaos.campaign import Plan, run
from tests.chaos.faults import OF_ONE_SERVER, Kind
from tests.chaos.report import lines


@pytest.mark.process
@pytest.mark.slow
async def test_no_task_suffers_from_half_a_minute_of_chaos() -> None:
    said: list[str] = []
    report = await run(Plan(seed=1, seconds=28, tasks=40), said.append)
    assert not report.violations, "\n".join([*said, *lines(report)])
    assert report.ends.total() == 40
    assert set(report.faults) == set(OF_ONE_SERVER)
    assert report.faults.total() >= 3 * len(OF_ONE_SERVER)


@pytest.mark.process
@pytest.mark.slow
async def test_nor_where_the_streams_are_on_a_cluster_whose_shards_fail_over() -> None:
    said: list[str] = []
    kinds = (Kind.SHARD_KILLED, Kind.SLOTS_MOVED, Kind.WORKER_KILLED, Kind.CONTROL_PLANE_KILLED)
    report = await run(Plan(seed=1, seconds=18, tasks=24, kinds=kinds, has_shards=True), said.append)
    assert not report.violations, "\n".join([*said, *lines(report)])
    assert report.ends.total() == 24
    assert set(report.faults) == set(kinds)
