import asyncio
from datetime import timedelta

import pytest

from tailplane.broker import Broker, Queue, WorkerRecord, WorkflowRecord
from tailplane.control_plane import workflow_registry
from tailplane.control_plane.workflow_registry import WorkflowRegistry
from tailplane.protocol.errors import UnknownWorkflow
from tailplane.protocol.ids import new_worker_id


class CountingQueue:
    """The real queue, and how often its workflows were read."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.reads = 0

    async def workflows(self) -> dict[str, WorkflowRecord]:
        self.reads += 1
        return await self.queue.workflows()


@pytest.fixture
def counting(broker: Broker) -> CountingQueue:
    return CountingQueue(broker.queue)


@pytest.fixture
def registry(counting: CountingQueue, monkeypatch: pytest.MonkeyPatch) -> WorkflowRegistry:
    # So that nothing is read again but for a reason.
    monkeypatch.setattr(workflow_registry, "CACHE_TTL", 3600.0)
    return WorkflowRegistry(counting)  # type: ignore[arg-type]  # all that it uses


async def register(broker: Broker, name: str, version: str = "1") -> None:
    worker = WorkerRecord(new_worker_id(), "h", 1, "0", [name], 1, 0)
    record = WorkflowRecord(name, version, "", {}, None, 1, None)
    await broker.queue.register(worker, [record], timedelta(minutes=1))


async def test_a_known_workflow_is_read_once(
    registry: WorkflowRegistry, counting: CountingQueue, broker: Broker
) -> None:
    await register(broker, "a")

    found = await asyncio.gather(*(registry.find("a") for _ in range(50)))

    assert {record.name for record in found} == {"a"}
    assert counting.reads == 1


async def test_a_miss_reads_again_at_once(registry: WorkflowRegistry, broker: Broker) -> None:
    with pytest.raises(UnknownWorkflow):
        await registry.find("a")

    await register(broker, "a")

    assert (await registry.find("a")).name == "a"


async def test_misses_at_the_same_time_share_a_read(registry: WorkflowRegistry, counting: CountingQueue) -> None:
    await registry.all()

    outcomes = await asyncio.gather(*(registry.find("a") for _ in range(50)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {UnknownWorkflow}
    assert counting.reads <= 3


async def test_what_is_too_old_is_read_again(
    registry: WorkflowRegistry, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(broker, "a")
    await registry.find("a")
    await register(broker, "a", "2")

    monkeypatch.setattr(workflow_registry, "CACHE_TTL", 0.0)

    assert (await registry.find("a")).version == "2"
