"""The shards of a real cluster as one store: routing, redirections, slots that move, and shards that are away."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tailplane.broker import Broker, Shards, connect, connect_cluster
from tailplane.broker import shard_bells as shard_bells_module
from tailplane.broker import shards as shards_module
from tailplane.broker import topology as topology_module
from tailplane.broker.addresses import Address
from tailplane.broker.slots import slot_of
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import HOST
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.states import State
from tests.lossy_proxy import LossyProxy
from tests.proxy import serving
from tests.redis_cluster import PATIENCE, RedisCluster, until

from .conftest import Deployment, append

HOUR = timedelta(hours=1)


def keys_on(cluster: RedisCluster, node: EmbeddedServer, prefix: str, count: int = 1) -> list[str]:
    """Return keys that a primary has."""
    owners = {each: cluster.slots_of(each) for each in cluster.primaries()}
    candidates = (f"{prefix}:{number}" for number in range(100_000))
    found = (key for key in candidates if slot_of(key) in owners[node])
    return [next(found) for _ in range(count)]


@pytest.fixture
async def deployment(sharded_broker: Broker) -> Deployment:
    return Deployment(sharded_broker)


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[RedisCluster]:
    """Three shards without replicas, whose servers these tests take away and give back."""
    with RedisCluster(has_replicas=False, persist=True) as running:
        yield running


@pytest.fixture
async def own_shards(own_cluster: RedisCluster) -> AsyncIterator[Shards]:
    for node in own_cluster.nodes:
        # A server that waits for a slow disk may write what it has answered two seconds later: killed, it has lost it.
        own_cluster.ask(node, "CONFIG", "SET", "appendfsync", "always")
    shards = connect_cluster(own_cluster.url)
    await shards.topology.refresh()
    yield shards
    await shards.aclose()


async def test_each_command_goes_to_the_server_of_its_key(
    shards: Shards, redis_cluster: RedisCluster, prefix: str
) -> None:
    keys = [f"{prefix}:{number}" for number in range(300)]
    assert await shards.call([("SET", key, number) for number, key in enumerate(keys)]) == [b"OK"] * 300
    assert await shards.call([("GET", key) for key in keys]) == [str(number).encode() for number in range(300)]
    owners = {shards.shard(key) for key in keys}
    assert owners == {Address(HOST, node.port) for node in redis_cluster.primaries()}


async def test_a_refused_command_leaves_the_others_alone(shards: Shards, prefix: str) -> None:
    keys = [f"{prefix}:{number}" for number in range(10)]
    await shards.call([("SET", key, "text") for key in keys])
    replies = await shards.call([each for key in keys for each in (("GET", key), ("INCR", key))])
    assert replies[::2] == [b"text"] * 10
    assert all(isinstance(reply, ResponseError) for reply in replies[1::2])
    with pytest.raises(ResponseError, match="not an integer"):
        await shards.run("INCR", keys[0])
    assert await shards.call([]) == []


async def test_any_node_that_answers_tells_the_others(redis_cluster: RedisCluster, prefix: str) -> None:
    replica = next(node for node in redis_cluster.nodes if not redis_cluster.is_primary(node))
    shards = connect_cluster(f"redis+cluster://127.0.0.1:1,127.0.0.1:{replica.port}")
    try:
        assert await shards.run("SET", prefix, "here") == b"OK"
        assert len(await shards.topology.servers()) == len(redis_cluster.nodes)
    finally:
        await shards.aclose()


async def test_a_server_that_is_no_cluster_is_told(server: EmbeddedServer) -> None:
    shards = connect_cluster(f"redis+cluster://127.0.0.1:{server.port}")
    with pytest.raises(StoreUnavailable, match="cluster support disabled"):
        await shards.run("GET", "a")
    await shards.aclose()


async def test_where_nothing_answers_it_is_told_soon() -> None:
    shards = connect_cluster("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable, match="no node of its cluster answers"):
            await shards.run("GET", "a")
    await shards.aclose()


@contextlib.contextmanager
def moved_slot(cluster: RedisCluster, key: str) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """Begin to move a key's slot to another primary; back where it was at the end, with all its keys."""
    source = cluster.owner(key)
    target = next(node for node in cluster.primaries() if node is not source)
    slot = slot_of(key)
    cluster.begin_to_move(slot, source, target)
    try:
        yield source, target
    finally:
        if cluster.owner(key) is not target:
            cluster.end_move(slot, source, target)
        cluster.begin_to_move(slot, target, source)
        cluster.end_move(slot, target, source)


async def test_a_key_is_found_before_while_and_after_its_slot_moves(
    shards: Shards, redis_cluster: RedisCluster, prefix: str
) -> None:
    tag = f"{{{prefix}}}"
    stays, goes, comes = f"{tag}:stays", f"{tag}:goes", f"{tag}:comes"
    await shards.call([("SET", stays, 1), ("SET", goes, 2)])
    with moved_slot(redis_cluster, stays) as (source, target):
        redis_cluster.ask(source, "MIGRATE", HOST, target.port, goes, 0, 5000)
        # The first is where it was, the others are asked for at the target, and one is made there.
        assert await shards.call([("GET", stays), ("GET", goes), ("GET", comes)]) == [b"1", b"2", None]
        assert await shards.call([("INCR", goes), ("INCR", comes), ("INCR", stays)]) == [3, 1, 2]
        assert redis_cluster.ask(target, "CLUSTER", "COUNTKEYSINSLOT", slot_of(stays)) == 2
        redis_cluster.end_move(slot_of(stays), source, target)
        # By MOVED; and from then on at once.
        assert await shards.call([("GET", stays), ("GET", goes), ("GET", comes)]) == [b"2", b"3", b"1"]
        assert shards.shard(stays) == Address(HOST, target.port)
    assert await shards.call([("GET", stays), ("GET", goes), ("GET", comes)]) == [b"2", b"3", b"1"]


async def test_servers_that_send_a_command_back_and_forth_are_not_followed_for_ever(
    shards: Shards, redis_cluster: RedisCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "REDIRECTIONS", 0)
    await shards.topology.refresh()
    with moved_slot(redis_cluster, prefix), pytest.raises(StoreUnavailable, match="do not agree"):
        await shards.run("GET", prefix)


async def test_all_scripts_of_a_task_run_while_its_slot_moves(
    deployment: Deployment, redis_cluster: RedisCluster
) -> None:
    broker = deployment.broker
    task = await deployment.create()
    begun = await deployment.begin(task)
    slot = slot_of(broker.keys.task(task))
    with moved_slot(redis_cluster, broker.keys.task(task)) as (source, target):
        # Still here: nothing that a script names may seem to be missing.
        assert await broker.log.append([append(begun, "before")]) == [None]
        redis_cluster.move_keys(slot, source, target)
        assert await broker.log.append([append(begun, "after", after=begun.seq + 1)._replace(entries=-1)]) == [None]
        await deployment.broker.tasks.wait_for(task, "ends")
        assert await deployment.cancel(task, 1) is not None
    async with asyncio.timeout(PATIENCE):
        # The nodes may not agree yet who has the slot.
        while (await broker.log.exist([task]))[0] is None:
            await asyncio.sleep(0.05)
    assert await deployment.said(task) == ["task.queued", "task.started", "before", "after", "task.cancelled"]


async def test_a_reply_that_is_lost_is_not_asked_for_again(own_cluster: RedisCluster, prefix: str) -> None:
    primary = own_cluster.nodes[0]
    (key,) = keys_on(own_cluster, primary, prefix)
    async with serving(LossyProxy(primary.port)) as proxy:
        there = Address(HOST, primary.port)

        def dial(address: Address) -> Redis:
            return connect(f"redis://{HOST}:{proxy.port if address == there else address.port}/0", Redis)

        shards = Shards([there], dial)
        assert await shards.run("INCR", key) == 1
        proxy.lose_next_reply()
        with pytest.raises(StoreUnavailable):
            await shards.run("INCR", key)
        async with asyncio.timeout(20):
            while isinstance((await shards.call([("GET", key)]))[0], StoreUnavailable):
                await asyncio.sleep(0.01)
        # It was done, once.
        assert await shards.run("GET", key) == b"2"
        await shards.aclose()


async def test_a_shard_that_is_away_costs_the_others_nothing(
    own_cluster: RedisCluster, own_shards: Shards, prefix: str
) -> None:
    dead, *living = own_cluster.nodes
    (gone,) = keys_on(own_cluster, dead, prefix)
    here = [key for node in living for key in keys_on(own_cluster, node, prefix, 5)]
    await own_shards.call([("SET", key, 1) for key in [gone, *here]])
    dead.kill()
    try:
        first, *others = await own_shards.call([("GET", key) for key in [gone, *here]])
        assert isinstance(first, StoreUnavailable)
        assert others == [b"1"] * 10
        with pytest.raises(StoreUnavailable):
            await own_shards.run("GET", gone)
        assert await own_shards.run("GET", here[0]) == b"1"
    finally:
        dead.start()
    async with asyncio.timeout(20):
        while await own_shards.call([("GET", gone)]) != [b"1"]:
            await asyncio.sleep(0.02)


async def test_what_can_not_be_told_of_a_task_is_not_taken_for_its_absence(
    own_cluster: RedisCluster, own_shards: Shards, server: EmbeddedServer, prefix: str
) -> None:
    client = connect(server.url, Redis)
    broker = Broker.over(client, prefix=prefix, retention=HOUR, start_within=HOUR, shards=own_shards)
    deployment, dead = Deployment(broker), own_cluster.nodes[0]
    tasks = [await deployment.create() for _ in range(20)]
    gone = {task for task in tasks if broker.log.shard(task) == Address(HOST, dead.port)}
    assert 0 < len(gone) < len(tasks)
    dead.kill()
    try:
        standings, exist = await broker.tasks.judge(tasks), await broker.log.exist(tasks)
        for task, standing, exists in zip(tasks, standings, exist, strict=True):
            if task in gone:
                assert isinstance(standing, StoreUnavailable)
                assert exists is None
            else:
                assert standing == (State.QUEUED, 0, False, False)
                assert exists is True
        # A list with holes would be a lie.
        with pytest.raises(StoreUnavailable):
            await broker.tasks.read_many(tasks, ["state"])
        # What comes now is put elsewhere.
        drawn = [broker.tasks.draw("default") for _ in range(50)]
        assert Address(HOST, dead.port) not in {broker.log.shard(task) for task in drawn}
    finally:
        dead.start()
        await client.aclose(close_connection_pool=True)
    async with asyncio.timeout(PATIENCE):
        while not all(await broker.log.exist(tasks)):
            await asyncio.sleep(0.02)


async def test_a_shard_that_hangs_costs_one_deadline_and_no_more(
    own_cluster: RedisCluster, own_shards: Shards, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, lives = own_cluster.nodes[:2]
    (gone,), (here,) = keys_on(own_cluster, hung, prefix), keys_on(own_cluster, lives, prefix)
    await own_shards.call([("SET", gone, 1), ("SET", here, 1)])
    assert hung.pid is not None
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        # Whoever waits for a deadline here waits for ever.
        monkeypatch.setattr("tailplane.broker.wire.COMMAND_DEADLINE", 3600)
        waiting = asyncio.ensure_future(own_shards.call([("GET", gone)]))
        async with asyncio.timeout(20):
            for _ in range(20):
                assert await own_shards.run("GET", here) == b"1"
        assert not waiting.done()
        monkeypatch.setattr("tailplane.broker.wire.COMMAND_DEADLINE", 0.5)
        (reply,) = await waiting
        assert isinstance(reply, StoreUnavailable)
        # Known by now.
        monkeypatch.setattr("tailplane.broker.wire.COMMAND_DEADLINE", 3600)
        async with asyncio.timeout(20):
            for _ in range(20):
                (reply, other) = await own_shards.call([("GET", gone), ("GET", here)])
                assert isinstance(reply, StoreUnavailable)
                assert other == b"1"
    finally:
        os.kill(hung.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        while await own_shards.call([("GET", gone)]) != [b"1"]:
            await asyncio.sleep(0.02)


@dataclass
class Ear:
    heard: list[tuple[str, bytes | None]] = field(default_factory=list)

    def hear(self, channel: str, message: bytes | None) -> None:
        self.heard.append((channel, message))

    async def until(self, *expected: tuple[str, bytes | None]) -> None:
        async with asyncio.timeout(20):
            while not set(expected) <= set(self.heard):
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[tuple[Any, Ear]]:
    ear = Ear()
    bells = broker.hear_bells(ear.hear)
    running = asyncio.ensure_future(bells.run())
    try:
        yield bells, ear
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_bells_ring_on_every_shard(sharded_broker: Broker, shards: Shards, prefix: str) -> None:
    channels = [f"{prefix}:{number}" for number in range(50)]
    async with listening(sharded_broker) as (bells, ear):
        await asyncio.gather(*(bells.subscribe(channel) for channel in channels))
        assert sorted(ear.heard) == sorted((channel, None) for channel in channels)
        assert await shards.call([("SPUBLISH", channel, "ding") for channel in channels]) == [1] * 50
        await ear.until(*((channel, b"ding") for channel in channels))
        await bells.unsubscribe(channels[0])
        async with asyncio.timeout(10):
            while await shards.run("SPUBLISH", channels[0], "late"):
                await asyncio.sleep(0.01)
    assert (channels[0], b"late") not in ear.heard


async def test_a_bell_whose_slot_has_moved_is_found_again_and_looked_after(
    sharded_broker: Broker, shards: Shards, redis_cluster: RedisCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the server says must do, without a look once in a while.
    monkeypatch.setattr(shard_bells_module, "LOOK_EVERY", 60.0)
    other = f"{prefix}:other"
    async with listening(sharded_broker) as (bells, ear):
        await bells.subscribe(prefix)
        await bells.subscribe(other)
        with moved_slot(redis_cluster, prefix) as (source, target):
            ear.heard.clear()
            redis_cluster.end_move(slot_of(prefix), source, target)
            # Messages may have been missed: that is told, too.
            await ear.until((prefix, None))
            async with asyncio.timeout(10):
                while not await shards.run("SPUBLISH", prefix, "ding"):
                    await asyncio.sleep(0.01)
            await ear.until((prefix, b"ding"))
        await ear.until((prefix, None))
    assert (other, None) not in ear.heard


async def test_who_subscribes_with_an_old_map_is_sent_on(
    sharded_broker: Broker, shards: Shards, redis_cluster: RedisCluster, prefix: str
) -> None:
    await shards.topology.refresh()
    async with listening(sharded_broker) as (bells, ear):
        with moved_slot(redis_cluster, prefix) as (source, target):
            redis_cluster.end_move(slot_of(prefix), source, target)
            await bells.subscribe(prefix)
            assert ear.heard == [(prefix, None)]


async def test_channels_that_move_by_the_thousand_hold_up_nobody(
    sharded_broker: Broker, shards: Shards, redis_cluster: RedisCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counted(key: str | bytes) -> int:
        nonlocal looks
        looks += 1
        return slot_of(key)

    monkeypatch.setattr("tailplane.broker.subscriptions.slot_of", counted)
    source = redis_cluster.owner(prefix)
    (stays,) = (key for key in keys_on(redis_cluster, source, f"{prefix}:stays") if slot_of(key) != slot_of(prefix))
    moving, staying = ([f"{{{tag}}}:{number}" for number in range(500)] for tag in (prefix, stays))
    async with listening(sharded_broker) as (bells, ear):
        await asyncio.gather(*(bells.subscribe(channel) for channel in moving + staying))
        ear.heard.clear()
        with moved_slot(redis_cluster, prefix) as (source, target):
            redis_cluster.end_move(slot_of(prefix), source, target)
            await ear.until(*((channel, None) for channel in moving))
            # Behind what the former server says of each of them.
            await asyncio.sleep(0.5)
    assert looks < 50 * len(moving)


async def test_who_watches_is_told_of_a_move_that_a_redirection_told_first(
    shards: Shards, redis_cluster: RedisCluster, prefix: str
) -> None:
    await shards.topology.refresh()
    told = asyncio.Event()
    with shards.topology.watching(told.set), moved_slot(redis_cluster, prefix) as (source, target):
        redis_cluster.end_move(slot_of(prefix), source, target)
        assert await shards.run("GET", prefix) is None
        assert shards.shard(prefix) == Address(HOST, target.port)
        async with asyncio.timeout(10):
            await told.wait()


async def test_a_lost_connection_refuses_nobody_whose_server_answers(
    own_cluster: RedisCluster, own_shards: Shards, prefix: str
) -> None:
    node = own_cluster.owner(prefix)
    address = Address(HOST, node.port)
    for _ in range(20):
        own_shards.topology.note_lost(address)
        assert await own_shards.call([("GET", prefix)]) == [None]
    node.kill()
    try:
        own_shards.topology.note_lost(address)
        async with asyncio.timeout(10):
            while not own_shards.is_away(prefix):
                await asyncio.sleep(0.01)
    finally:
        node.start()
    async with asyncio.timeout(20):
        while own_shards.is_away(prefix):
            await asyncio.sleep(0.01)


async def test_a_replica_that_was_away_and_takes_over_is_found_though_nobody_asks_it(
    shards: Shards, redis_cluster: RedisCluster, prefix: str
) -> None:
    await shards.topology.refresh()
    primary = redis_cluster.owner(prefix)
    assert shards.topology.map is not None
    ((_, port),) = shards.topology.map.replicas[Address(HOST, primary.port)]
    replica = next(node for node in redis_cluster.nodes if node.port == port)
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        shards.topology.note_lost(Address(HOST, replica.port))
        # Longer than a look at it.
        await asyncio.sleep(topology_module.LOOK_DEADLINE + 0.5)
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    await asyncio.to_thread(until, redis_cluster.is_whole, "the cluster is whole")
    for taking in (replica, primary):
        redis_cluster.ask(taking, "CLUSTER", "FAILOVER")
        await asyncio.to_thread(until, lambda node=taking: redis_cluster.is_primary(node), "it has taken over")
        await asyncio.to_thread(until, redis_cluster.is_whole, "the cluster is whole")
        async with asyncio.timeout(20):
            while shards.shard(prefix) != Address(HOST, taking.port) or shards.is_away(prefix):
                await shards.topology.refresh()
                await asyncio.sleep(0.05)


async def test_ends_are_heard_whichever_shard_tells_of_them(sharded_broker: Broker, shards: Shards) -> None:
    deployment, ear = Deployment(sharded_broker), Ear()
    ends = sharded_broker.hear_ends(ear.hear)
    running = asyncio.ensure_future(ends.run())
    await ends.subscribe("ends:here")
    tasks = [await deployment.create() for _ in range(20)]
    for task in tasks:
        await sharded_broker.tasks.wait_for(task, "ends:here")
        await deployment.cancel(task, 0)
    await ear.until(*(("ends:here", sharded_broker.keys.task(task).encode()) for task in tasks))
    assert len({shards.shard(sharded_broker.keys.task(task)) for task in tasks}) == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
