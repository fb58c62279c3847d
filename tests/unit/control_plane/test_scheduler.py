"""The scheduler over tenants: who fires is shown in `tests/integration/test_schedules.py`; here, whose schedules."""

from collections.abc import Sequence

import pytest

from tailplane.broker import Broker, TaskRef, TenantRecord
from tailplane.broker.schedules import ScheduleSpec
from tailplane.control_plane import scheduler as scheduler_module
from tailplane.control_plane.cancel import Canceller
from tailplane.control_plane.clock import ServerClock
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.ends import Ends
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.scheduler import Scheduler
from tailplane.control_plane.workflow_registry import WorkflowRegistry
from tailplane.protocol import codec
from tailplane.protocol.ids import new_task_id

EVERY_HOUR = ScheduleSpec("a", codec.pack(None), {}, None, 3600_000, None, "UTC", "allow", "latest", 60_000, None, None)


def scheduler_of(broker: Broker) -> Scheduler:
    clock, tenants = ServerClock(broker.queue.wire), KnownTenants(broker.tenants, 100)
    return Scheduler(broker, WorkflowRegistry(broker.queue), Canceller(broker, Ends(broker)), clock, Counts(), tenants)


async def put(broker: Broker, tenants: Sequence[str]) -> None:
    """Let each tenant have a schedule that is due, of one name."""
    now_ms = await broker.queue.now_ms()
    for tenant in tenants:
        await broker.tenants.note(tenant)
        await broker.schedules.put(tenant, "hourly", EVERY_HOUR, now_ms - 1000, now_ms)


async def test_schedules_of_all_tenants_are_fired(broker: Broker) -> None:
    tenants = ["acme", "blue", "default"]
    await put(broker, [*tenants, "paused"])
    await broker.schedules.pause("paused", "hourly")
    scheduler = scheduler_of(broker)
    assert await scheduler.fire_due() == 3
    depths = [await broker.queue.depth(name) for name in ("acme/a", "blue/a", "a", "paused/a")]
    assert depths == [1, 1, 1, 0]
    for tenant in tenants:
        (task_id,) = await broker.catalogue.task_ids(tenant, None, None, 9)
        assert (await broker.tasks.read(TaskRef(task_id, tenant))).tenant == tenant
    assert await scheduler.fire_due() == 0


async def test_very_many_tenants_have_their_turns(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "TENANTS_AT_ONCE", 3)
    await put(broker, [f"t{n}" for n in range(7)])
    scheduler = scheduler_of(broker)
    # The default one has none.
    assert sum([await scheduler.fire_due() for _ in range(3)]) == 7


async def test_a_tenant_whose_queue_is_full_holds_up_no_other_one(broker: Broker) -> None:
    await broker.tenants.set_limits(TenantRecord("acme", max_queued=1))
    await broker.queue.enqueue(TaskRef(new_task_id(), "acme"), "a")
    await put(broker, ["acme", "blue"])
    assert await scheduler_of(broker).fire_due() == 1
    assert [await broker.queue.depth(name) for name in ("acme/a", "blue/a")] == [1, 1]


async def test_a_schedule_that_goes_while_it_waits_for_room_is_forgotten(broker: Broker) -> None:
    await broker.tenants.set_limits(TenantRecord("acme", max_queued=1))
    await broker.queue.enqueue(TaskRef(new_task_id(), "acme"), "a")
    await put(broker, ["acme"])
    scheduler = scheduler_of(broker)
    assert await scheduler.fire_due() == 0
    assert scheduler._waiting == {("acme", "hourly")}
    await broker.schedules.pause("acme", "hourly")
    assert await scheduler.fire_due() == 0
    assert scheduler._waiting == set()
