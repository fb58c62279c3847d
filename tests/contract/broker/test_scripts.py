"""Scripts are run by their digests; a server that has forgotten them is told again."""

from dataclasses import replace
from datetime import timedelta
from importlib import resources
from typing import Any
from unittest.mock import ANY

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, Cut, SessionRef, Terms, scripts
from tailplane.broker.api_keys import NewKey
from tailplane.broker.parking import Parked
from tailplane.broker.schedules import Move
from tailplane.broker.scripts import Script
from tailplane.broker.usage import Rate
from tailplane.protocol.ids import EntryId, new_session_id
from tailplane.protocol.scopes import Scope
from tailplane.protocol.states import State, Trigger

from .conftest import Deployment, append, every

ALL = [value for value in vars(scripts).values() if isinstance(value, Script)]


def test_each_file_is_a_script() -> None:
    files = {
        file.name.removesuffix(".lua") for file in resources.files(scripts).iterdir() if file.name.endswith(".lua")
    }
    assert {script.name for script in ALL} == files


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
async def test_the_digest_is_the_server_s(script: Script, redis: Redis) -> None:
    assert await redis.script_load(script.text) == script.sha


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_a_script_names_all_its_keys(script: Script) -> None:
    # On a Redis Cluster a key that is made inside the script would lie on a slot that nobody checked.
    for line in script.text.splitlines():
        code = line.partition("--")[0]
        # A channel is no key, and has no slot.
        if "redis.call(" in code and "'TIME'" not in code and "'PUBLISH'" not in code and "(ARGV[" not in code:
            assert "KEYS[" in code, line


async def test_a_server_that_forgot_its_scripts_is_told_them_again(
    deployment: Deployment, broker: Broker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_many, used = Script.try_many, set()

    async def forget_then_try(self: Script, *args: Any) -> Any:
        used.add(self.name)
        await redis.script_flush()
        return await try_many(self, *args)

    monkeypatch.setattr(Script, "try_many", forget_then_try)
    await deployment.register()
    task = await deployment.enqueue()
    (claim,) = await deployment.claim()
    await broker.queue.requeue(deployment.worker, claim, timedelta())
    await broker.queue.acknowledge(deployment.worker, replace(claim, has_terms=True))
    await deployment.claim()
    keyed = await deployment.enqueue(terms=Terms(concurrency_key="key"))
    await broker.queue.admit(10)
    await broker.queue.withdraw(keyed, "echo", None)
    begun = await deployment.begin(task)
    await broker.tasks.wait_for(task, "ends")
    assert await broker.tasks.judge([task, task]) == [(State.RUNNING, 1, False, False)] * 2
    assert (await broker.inbox.deliver(task, None, 1)).number == 1
    assert await deployment.finish(begun, Trigger.RETRY) is State.QUEUED
    assert await deployment.cancel(task, 1) is State.CANCELLED
    await broker.catalogue.note_dead(task)
    await broker.states.set(SessionRef(new_session_id()), "key", b"\xc0", None, "call")
    await broker.queue.renew(deployment.worker, timedelta(seconds=1))
    assert await broker.queue.reap(deployment.worker, leaves=True) == 1
    await deployment.register()
    (claim,) = await deployment.claim()
    assert await broker.parking.park(deployment.worker, claim, None)
    assert await broker.parking.unpark(Parked(task, claim.workflow))
    again = await deployment.begin()
    assert await broker.log.append([append(again, "a")] * 120) == [None] + [ANY] * 119
    assert await broker.log.trim([Cut(again.record.ref, EntryId(1, 2), 3)]) == [2]
    assert await broker.tasks.repair(again.record.ref, 1, deployment.worker, EntryId(1, 3), []) == 2
    await broker.schedules.put("default", "hourly", every(3600), 1000, 0)
    hourly = await broker.schedules.read("default", "hourly")
    await broker.schedules.pass_over(hourly, Move(1000, None, 2000))
    await broker.schedules.fire(hourly, Move(2000, 2000, 3000), 2000, task)
    await broker.schedules.pause("default", "hourly")
    assert await broker.schedules.resume(hourly, 3000)
    assert (await broker.usage.take_submit("default", [Rate("default", 1)], None))[0]
    assert await broker.usage.tell_readers("here", {"default": 1}) == {"default": 0}
    await broker.usage.note_stored({"default": 1})
    record, _ = await broker.api_keys.create(NewKey(tenant="default", name="app", scopes=frozenset({Scope.READ})))
    await broker.api_keys.rotate(record.key_id, timedelta())
    await broker.api_keys.revoke(record.key_id)
    assert used == {script.name for script in ALL}
