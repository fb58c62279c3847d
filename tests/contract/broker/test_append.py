"""XADD with ids of our own: an append is refused when it is fenced off, and never doubled."""

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from tailplane.broker import Append, Broker, Entry, Refusal, parse_published
from tailplane.broker.event_log import PUBLISH_BYTES
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.frames import encode_frame
from tailplane.protocol.ids import EntryId
from tailplane.protocol.states import Trigger

from .conftest import OTHER_WORKER, Deployment, append, assert_whole, closing


async def test_entries_follow_each_other(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    for after in range(begun.seq, begun.seq + 5):
        assert await broker.log.append([append(begun, after, after=after)]) == [None]
    assert_whole(await deployment.events(begun.record.ref))


async def test_an_entry_that_is_sent_again_is_there_once(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    entry = append(begun, "a", "b")
    assert await broker.log.append([entry]) == [None]
    (refusal,) = await broker.log.append([entry])
    assert refusal == Refusal(EntryId(1, 4), 3)
    assert refusal.means_already_there(entry.id)
    assert await deployment.said(begun.record.ref) == ["task.queued", "task.started", "a", "b"]


async def test_a_lost_reply_and_a_second_sending_give_one_entry(
    deployment: Deployment, lossy_broker: Broker, lose_next_reply: Callable[[], None]
) -> None:
    begun = await deployment.begin()
    entry = append(begun, "a", "b")
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await lossy_broker.log.append([entry])
    (refusal,) = await lossy_broker.log.append([entry])
    assert refusal is not None
    assert refusal.means_already_there(entry.id)
    assert await deployment.said(begun.record.ref) == ["task.queued", "task.started", "a", "b"]


async def test_an_old_entry_that_is_sent_again_after_newer_ones_counts_as_there(
    deployment: Deployment, broker: Broker
) -> None:
    begun = await deployment.begin()
    old, new = append(begun, "a"), append(begun, "b", after=begun.seq + 1)
    await broker.log.append([old])
    await broker.log.append([new])
    (refusal,) = await broker.log.append([old])
    assert refusal is not None
    assert refusal.means_already_there(old.id)


async def test_nothing_is_appended_to_a_stream_that_is_gone(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    begun = await deployment.begin()
    await redis.delete(broker.keys.stream(begun.record.ref))
    (refusal,) = await broker.log.append([append(begun, "late")])
    assert refusal == Refusal(None)
    assert not refusal.means_already_there(append(begun, "late").id)
    assert await broker.log.exist([begun.record.ref]) == [False]


async def test_nothing_is_appended_behind_a_terminal_event(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    await deployment.cancel(begun.record.ref, 1)
    (refusal,) = await broker.log.append([append(begun, "late", after=100)])
    assert refusal is not None
    assert not refusal.means_already_there(EntryId(1, 101))
    assert (await deployment.said(begun.record.ref))[-1] == "task.cancelled"


async def test_one_refused_entry_does_not_disturb_the_others(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    good, fenced, gone, also_good = [await deployment.begin() for _ in range(4)]
    await broker.tasks.begin(fenced.record.ref, OTHER_WORKER, "host-2")
    await redis.delete(broker.keys.stream(gone.record.ref))
    outcome = await broker.log.append([append(each, "x") for each in (good, fenced, gone, also_good)])
    assert outcome == [None, Refusal(EntryId(2, 5), 3), Refusal(None), None]
    assert (await deployment.said(good.record.ref))[-1] == "x"
    assert (await deployment.said(also_good.record.ref))[-1] == "x"


async def test_many_tasks_are_appended_to_in_one_round_trip(deployment: Deployment, broker: Broker) -> None:
    begun = [await deployment.begin() for _ in range(50)]
    assert await broker.log.append([append(each, number) for number, each in enumerate(begun)]) == [None] * 50
    for number, each in enumerate(begun):
        assert (await deployment.said(each.record.ref))[-1] == number
    assert await broker.log.append([]) == []


async def test_what_redis_refuses_for_another_reason_is_told_in_its_words(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    good, broken = await deployment.begin(), await deployment.begin()
    await redis.delete(broker.keys.stream(broken.record.ref))
    await redis.set(broker.keys.stream(broken.record.ref), "not a stream")
    outcome = await broker.log.append([append(good, "x"), append(broken, "x")])
    assert outcome[0] is None
    assert outcome[1] is not None
    assert (outcome[1].tail, outcome[1].reason) == (
        None,
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    )


async def test_a_server_that_takes_no_writes_now_is_no_refusal(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    begun = await deployment.begin()
    await redis.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
            await broker.log.append([append(begun, "x")])
        with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
            await deployment.finish(begun)
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    assert await broker.log.append([append(begun, "x")]) == [None]


async def test_a_full_server_is_no_refusal(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    begun = await deployment.begin()
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            await broker.log.append([append(begun, "x")])
        with pytest.raises(StoreUnavailable):
            await deployment.finish(begun)
    finally:
        await redis.config_set("maxmemory", 0)
    assert await deployment.said(begun.record.ref) == ["task.queued", "task.started"]


@pytest.mark.parametrize("count", [1, 15, 16, 300, 70_000])
async def test_an_entry_knows_the_seq_of_its_first_event(deployment: Deployment, broker: Broker, count: int) -> None:
    begun = await deployment.begin()
    packed = [pack_event(None)] * count
    entry = Append(begun.record.ref, EntryId(1, begun.seq + count), join_events(packed))
    assert await broker.log.append([entry]) == [None]
    newest = await broker.log.newest_entry(begun.record.ref)
    assert newest is not None
    assert (newest.id, newest.first_seq, newest.end) == (entry.id, begun.seq + 1, None)


@contextlib.asynccontextmanager
async def hearing(redis: Redis, channel: str) -> AsyncIterator[Callable[[], Awaitable[bytes | None]]]:
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=5)

        async def heard() -> bytes | None:
            message = await pubsub.get_message(timeout=5)
            return message["data"] if message else None

        yield heard


async def test_readers_are_told_a_small_entry_itself(deployment: Deployment, broker: Broker, redis: Redis) -> None:
    begun = await deployment.begin()
    entry = append(begun, "a", "b")
    async with hearing(redis, broker.keys.bell(begun.record.ref)) as heard:
        await broker.log.append([entry])
        message = await heard()
    assert message == encode_frame(entry.id, entry.payload)
    assert parse_published(message) == Entry(entry.id, entry.payload, None, message)


async def test_readers_are_told_that_there_is_a_large_entry(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    begun = await deployment.begin()
    async with hearing(redis, broker.keys.bell(begun.record.ref)) as heard:
        await broker.log.append([append(begun, "x" * PUBLISH_BYTES)])
        message = await heard()
    assert message == b"1-3"
    assert parse_published(message) is None


async def test_readers_hear_nothing_of_an_entry_that_is_refused(
    deployment: Deployment, broker: Broker, redis: Redis
) -> None:
    begun = await deployment.begin()
    task = begun.record.ref
    await deployment.cancel(task, 1)
    gone = await deployment.begin()
    await redis.delete(broker.keys.stream(gone.record.ref))
    async with hearing(redis, broker.keys.bell(task)) as heard, hearing(redis, broker.keys.bell(gone.record.ref)) as of:
        assert None not in await broker.log.append([append(begun, "late"), append(gone, "late")])
        await redis.publish(broker.keys.bell(task), b"next")
        await redis.publish(broker.keys.bell(gone.record.ref), b"next")
        assert (await heard(), await of()) == (b"next", b"next")


async def test_attempts_in_any_order_never_leave_a_hole_or_a_double(deployment: Deployment, broker: Broker) -> None:
    chance = random.Random(7)
    begun = await deployment.begin()
    task, after = begun.record.ref, begun.seq
    for _ in range(100):
        match chance.choice(["append", "again", "take over", "retry"]):
            case "append":
                count = chance.randint(1, 20)
                assert await broker.log.append([append(begun, *["x"] * count, after=after)]) == [None]
                after += count
            case "again":
                (refusal,) = await broker.log.append([append(begun, "x", after=after - 1)])
                assert refusal is not None
            case "take over":
                zombie, begun = begun, await deployment.begin(task)
                (refusal,) = await broker.log.append([append(zombie, "late", after=after)])
                assert refusal is not None
                after = begun.seq
            case "retry":
                await broker.tasks.finish(task, closing(begun, Trigger.RETRY, after=after))
                begun = await deployment.begin(task)
                after = begun.seq
    assert_whole(await deployment.events(task))
