"""Two tenants on one fleet, whose workers run the tasks of both: nothing of one comes to the other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, connect
from tailplane.broker.api_keys import NewKey
from tailplane.client import Client, TaskNotFound
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import RequestError, SessionNotFound
from tailplane.protocol.ids import new_key_id
from tailplane.protocol.scopes import Scope
from tailplane.protocol.states import State
from tests.integration.tenant_workflows import Word

pytestmark = pytest.mark.process

NAMES = ("ada", "bob")
_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    target = str(Path(__file__).with_name("tenant_workflows.py"))
    env = {"TAILPLANE_PARK_AFTER": "0.2"}
    with LocalCluster(Plan(target=target, api_key=ApiKey.draw(new_key_id()).text, env=env)) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    client: Client

    async def ids(self) -> set[str]:
        return {task.task_id async for task in self.client.tasks()}


@pytest.fixture
async def tenants(cluster: LocalCluster) -> AsyncIterator[list[Tenant]]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(cluster.redis_url, Redis))
        broker = Broker.over(redis, prefix="tailplane", retention=_DAY, start_within=_DAY)
        found = []
        for name in NAMES:
            await broker.tenants.note(name)
            new = NewKey(tenant=name, name="test", scopes=frozenset({Scope.ADMIN}))
            _, key = await broker.api_keys.create(new)
            found.append(Tenant(name, await stack.enter_async_context(Client(cluster.url, api_key=key.text))))
        yield found


async def test_children_are_their_parents_tenants(tenants: list[Tenant]) -> None:
    for tenant in tenants:
        before = await tenant.ids()
        task = await tenant.client.run_workflow("parent", tenant.name)
        shown = [event.data async for event in task.events() if event.kind == "workflow"]
        assert await task.result() == [f"{tenant.name} {n}" for n in range(3)]
        assert {str(data).split()[0] for data in shown if isinstance(data, str)} == {tenant.name}
        made = await tenant.ids() - before
        assert len(made) == 4
        for other in tenants:
            if other is not tenant:
                assert not made & await other.ids()
                for task_id in made:
                    with pytest.raises(TaskNotFound):
                        await other.client.task(task_id).status()


async def test_what_a_session_shares_stays_in_it(tenants: list[Tenant]) -> None:
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(each.client.start_session()) for each in tenants]
        for _ in range(2):
            for tenant, session in zip(tenants, sessions, strict=True):
                words = await (await session.run_workflow("share", tenant.name)).result()
                assert set(words) == {tenant.name}
        for tenant, session in zip(tenants, sessions[::-1], strict=True):
            with pytest.raises(SessionNotFound):
                await tenant.client.session(session.session_id)


async def test_nobody_answers_cancels_or_ends_what_is_another_s(tenants: list[Tenant]) -> None:
    ada, bob = tenants
    asking = [await each.client.run_workflow("ask", each.name) for each in tenants]
    lingering = [await each.client.run_workflow("linger", each.name) for each in tenants]
    async with asyncio.timeout(60):
        for task in asking:
            while (await task.status()).state is not State.WAITING:
                await asyncio.sleep(0.05)
        for task in lingering:
            while (await task.status()).state is not State.RUNNING:
                await asyncio.sleep(0.05)

    for task in (asking[1], lingering[1]):
        stolen = ada.client.task(task.task_id)
        for call in (stolen.cancel(), stolen.send_event(Word(text="of ada"))):
            with pytest.raises(TaskNotFound):
                await call
        with pytest.raises(RequestError):
            await ada.client.requeue(task.task_id)
    await asking[0].send_event(Word(text="of ada"))
    await lingering[0].cancel()

    assert await asking[0].result() == "of ada"
    assert (await asking[1].status()).state is State.WAITING
    assert (await lingering[1].status()).state is State.RUNNING
    await asking[1].send_event(Word(text="of bob"))
    assert await asking[1].result() == "of bob"
    assert (await lingering[1].cancel()).state is State.CANCELLED
    assert {task.task_id async for task in bob.client.tasks(state="cancelled")} == {lingering[1].task_id}
