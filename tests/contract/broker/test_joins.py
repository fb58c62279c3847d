"""Who has joined a session: numbered without holes, told of, and nobody after it was closed."""

import asyncio

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
