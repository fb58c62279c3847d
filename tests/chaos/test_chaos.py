"""Half a minute of chaos, as `make chaos` inflicts it for longer."""

import pytest

from tests.chaos.campaign import Plan, run
from tests.chaos.faults import Kind
from tests.chaos.report import lines


@pytest.mark.process
@pytest.mark.slow
async def test_no_task_suffers_from_half_a_minute_of_chaos() -> None:
    said: list[str] = []
    report = await run(Plan(seed=1, seconds=28, tasks=40), said.append)
    assert not report.violations, "\n".join([*said, *lines(report)])
    assert report.ends.total() == 40
    assert set(report.faults) == set(Kind)
    assert report.faults.total() >= 3 * len(Kind)
