"""Tenants on one fleet: who has queued thousands of tasks does not hold up who comes with ten; weights are shares."""

import asyncio
import random
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailplane.broker import Broker, TenantRecord
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol.states import State
from tests.integration.tenant_tasks import PATIENCE, broker_of, ended, queue_tasks

pytestmark = [pytest.mark.process, pytest.mark.slow]

WORKFLOWS = Path(__file__).with_name("fair_workflows.py")
CROWD = 5000
FEW = 10
ROUNDS = 3
# Seconds. Long beside what a busy machine adds to each, short beside the crowd's 250 s on these slots.
SHORT = 0.2
TWO = ("heavy", "light")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    plan = Plan(target=str(WORKFLOWS), workers=2, concurrency=2, env={"TAILPLANE_DRAIN_GRACE": "0.1"})
    with LocalCluster(plan) as running:
        yield running


async def waits_of_a_few(broker: Broker) -> list[float]:
    """Return for how many seconds a tenant waits for each of ten tasks, from when it has queued it to its end."""
    tasks = await queue_tasks(broker, "few", "doze", [SHORT] * FEW)
    records = await ended(broker, tasks)
    assert {record.state for record in records} == {State.SUCCEEDED}
    return [record.ended_at - record.created_at for record in records if record.ended_at is not None]


async def test_a_tenant_waits_twice_as_long_at_the_most_beside_one_that_has_queued_thousands(
    cluster: LocalCluster,
) -> None:
    async with broker_of(cluster) as broker:
        # The first is for what workers and Redis do only once.
        await waits_of_a_few(broker)
        alone = [wait for _ in range(ROUNDS) for wait in await waits_of_a_few(broker)]
        # Each runs for some other time, so that their slots come free one by one, as on any fleet: what runs is not
        # interrupted, and a tenant that comes anew waits for the next slot.
        crowd = await queue_tasks(broker, "crowd", "doze", (random.uniform(0.5, 1.5) * SHORT for _ in range(CROWD)))
        beside = [wait for _ in range(ROUNDS) for wait in await waits_of_a_few(broker)]
        left = await broker.queue.depth("crowd/doze")
        assert CROWD // 2 < left < len(crowd), "the crowd was there all the time, and was served"
        await broker.redis.delete(*broker.keys.queue_of("crowd/doze"))
    assert len(alone) == len(beside) == ROUNDS * FEW
    assert statistics.median(beside) <= 2 * statistics.median(alone)


async def test_weights_are_shares(cluster: LocalCluster) -> None:
    async with broker_of(cluster) as broker:
        await broker.tenants.set_limits(TenantRecord("heavy", weight=3))
        queued = await asyncio.gather(*(queue_tasks(broker, tenant, "doze", [0.05] * 600) for tenant in TWO))
        seconds, micros = await broker.redis.time()
        async with asyncio.timeout(PATIENCE):
            while sum([await broker.queue.depth(f"{tenant}/doze") for tenant in TWO]) > 500:
                await asyncio.sleep(0.02)
        records = await broker.tasks.read_many([task for tasks in queued for task in tasks], SUMMARY_FIELDS)
        await broker.redis.delete(*(key for tenant in TWO for key in broker.keys.queue_of(f"{tenant}/doze")))
    # Those that began first since then, while many of both waited: however late they are looked at.
    since = seconds + micros / 1e6
    begun = sorted((each.started_at, each.tenant) for each in records if each and (each.started_at or 0) > since)
    served = Counter(tenant for _, tenant in begun[:200])
    assert served.total() == 200
    assert 2.3 < served["heavy"] / served["light"] < 3.8
