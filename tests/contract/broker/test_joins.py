"""Who has joined a session: numbered without holes, told of, and nobody after it was closed."""

import asyncio
from datetime import timedelta

import pytest

from tailplane.broker import Broker, Join, SessionRef, TaskRef
from tailplane.protocol.ids import new_session_id

from .conftest import Deployment

DEADLINE = 20


async def open_session(broker: Broker) -> SessionRef:
    return SessionRef((await broker.catalogue.create_session("default", {})).session_id)


async def join(deployment: Deployment, ref: SessionRef) -> TaskRef:
    task = await deployment.create()
    await deployment.broker.queue.enqueue(task, "echo", session=ref.session_id)
    return task


async def test_tasks_are_numbered_in_the_order_in_which_they_join(deployment: Deployment) -> None:
    joins, ref = deployment.broker.joins, await open_session(deployment.broker)
    tasks = [await join(deployment, ref) for _ in range(5)]
    (look,) = await joins.look([(ref, 1, 100)])
    assert look.joined == [Join(number, task) for number, task in enumerate(tasks, 1)]
    assert (look.is_there, look.is_closed) == (True, False)
    (page,) = await joins.look([(ref, 2, 2)])
    assert [each.number for each in page.joined] == [2, 3]
    assert (await joins.newest(ref)).joined == [Join(5, tasks[4])]
    assert await joins.named(ref, [4, 9, 1]) == [Join(4, tasks[3]), None, Join(1, tasks[0])]


async def test_a_task_that_is_queued_again_has_joined_once(deployment: Deployment) -> None:
    joins, ref = deployment.broker.joins, await open_session(deployment.broker)
    task = await join(deployment, ref)
    await deployment.broker.queue.enqueue(task, "echo", session=ref.session_id)
    await deployment.broker.queue.enqueue(task, "echo")
    assert (await joins.look([(ref, 1, 100)]))[0].joined == [Join(1, task)]


async def test_a_closed_session_says_so_and_keeps_its_tasks(deployment: Deployment) -> None:
    broker, ref = deployment.broker, await open_session(deployment.broker)
    task = await join(deployment, ref)
    await broker.catalogue.close_session(ref.tenant, ref.session_id)
    (look,) = await broker.joins.look([(ref, 0, 100)])
    assert (look.is_there, look.is_closed, look.joined) == (True, True, [Join(1, task)])


async def test_a_session_that_never_was_is_not_there(broker: Broker) -> None:
    ref = SessionRef(new_session_id())
    assert not (await broker.joins.newest(ref)).is_there
    assert [look.is_there for look in await broker.joins.look([(ref, 1, 1)])] == [False]


async def left(broker: Broker, ref: SessionRef) -> list[int]:
    """Return for how many hours each part of a session is kept."""
    keys, tenant, session = broker.keys, ref.tenant, ref.session_id
    parts = keys.session, keys.session_tasks, keys.session_joins, keys.session_state
    return [round(await broker.redis.pttl(key(tenant, session)) / 3600_000) for key in parts]


async def test_a_session_stays_for_a_task_that_is_delayed(deployment: Deployment) -> None:
    broker, ref = deployment.broker, await open_session(deployment.broker)
    await broker.states.set(ref, "key", b"\xc0", None, "call")
    await join(deployment, ref)
    assert await left(broker, ref) == [24] * 4
    delayed = await deployment.create()
    await broker.queue.enqueue(delayed, "echo", delay=timedelta(hours=72), session=ref.session_id)
    assert await left(broker, ref) == [96] * 4
    # What comes later and is due earlier takes nothing from it, nor does its end.
    await join(deployment, ref)
    await broker.states.set(ref, "key", b"\xc0", None, "another call")
    await broker.catalogue.close_session(ref.tenant, ref.session_id)
    assert await left(broker, ref) == [96] * 4


@pytest.mark.parametrize(("hours", "kept"), [(0.0, 24), (48.0, 72), (None, 744), (1e6, 744)])
async def test_a_session_stays_for_a_task_that_waits(deployment: Deployment, hours: float | None, kept: int) -> None:
    broker, ref = deployment.broker, await open_session(deployment.broker)
    await deployment.register()
    await broker.states.set(ref, "key", b"\xc0", None, "call")
    await join(deployment, ref)
    (claim,) = await deployment.claim()
    until = None if hours is None else await broker.queue.now_ms() / 1000 + hours * 3600
    assert await broker.parking.park(deployment.worker, claim, until, ref.session_id)
    assert await left(broker, ref) == [kept] * 4


async def test_a_state_that_is_set_while_a_session_stays_for_longer_stays_as_long(deployment: Deployment) -> None:
    broker, ref = deployment.broker, await open_session(deployment.broker)
    delayed = await deployment.create()
    await broker.queue.enqueue(delayed, "echo", delay=timedelta(hours=72), session=ref.session_id)
    await broker.states.set(ref, "key", b"\xc0", None, "call")
    assert (await left(broker, ref))[3] == 96


async def test_joining_and_closing_ring(deployment: Deployment) -> None:
    broker, ref = deployment.broker, await open_session(deployment.broker)
    rung: asyncio.Queue[bytes | None] = asyncio.Queue()
    hearing = broker.hear_joins(lambda _, message: rung.put_nowait(message))
    running = asyncio.ensure_future(hearing.run())
    async with asyncio.timeout(DEADLINE):
        await hearing.subscribe(broker.keys.joined(ref.tenant, ref.session_id))
        # Confirmed: look.
        assert await rung.get() is None
        await join(deployment, ref)
        assert await rung.get() == b""
        await broker.catalogue.close_session(ref.tenant, ref.session_id)
        assert await rung.get() == b""
    running.cancel()
    await asyncio.wait({running})
