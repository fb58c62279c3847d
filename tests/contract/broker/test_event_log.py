"""Where readers begin: every cursor of a stream of several attempts, compared with a plain list."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tailplane.broker import Broker, TaskRef
from tailplane.broker.store import Argument
from tailplane.broker.wire import Wire
from tailplane.protocol.events import unpack_payload
from tailplane.protocol.ids import EntryId, new_task_id
from tailplane.protocol.states import Trigger

from .conftest import Deployment, append, closing

# Of each attempt the sizes of its entries, and how it ends.
attempts = st.lists(
    st.tuples(st.lists(st.integers(1, 20), max_size=4), st.sampled_from(["retry", "take over"])), min_size=0, max_size=4
)
endings = st.sampled_from(["queued", "running", "succeeded", "cancelled"])


async def write(deployment: Deployment, plan: list[tuple[list[int], str]], ending: str) -> tuple[TaskRef, int]:
    """Write a stream as planned; return its task and its last seq."""
    log, tasks = deployment.broker.log, deployment.broker.tasks
    task, last = await deployment.create(), 1
    for sizes, how in plan:
        begun = await deployment.begin(task)
        last = begun.seq
        for size in sizes:
            assert await log.append([append(begun, *range(size), after=last)]) == [None]
            last += size
        if how == "retry":
            await tasks.finish(task, closing(begun, Trigger.RETRY, "x", "y", after=last))
            last += 3
    latest = len(plan)
    if ending in ("running", "succeeded"):
        begun = await deployment.begin(task)
        last = begun.seq
    if ending == "succeeded":
        await tasks.finish(task, closing(begun, Trigger.SUCCEED, "z", after=last))
        last += 2
    if ending == "cancelled":
        await deployment.cancel(task, latest)
        last += 1
    return task, last


async def assert_every_cursor_is_found(deployment: Deployment, task: TaskRef, last: int) -> None:
    log = deployment.broker.log
    entries = await deployment.entries(task)
    record = await deployment.record(task)
    for cursor in range(last + 3):
        after = await log.locate(task, cursor, record.attempt)
        (found,) = await log.read_after([(task, after, 1000)])
        # The entry that the cursor lies in, and all that follow; none that was seen to its end.
        assert found == [entry for entry in entries if entry.id.seq > cursor]
        seqs = [event.seq for entry in found for event in unpack_payload(entry.id, entry.payload, cursor)]
        assert seqs == list(range(cursor + 1, last + 1))
    for count in range(1, last + 3):
        assert await log.newest(task, count) == max(0, last - count)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempts, endings)
async def test_a_reader_resumes_at_every_cursor(
    deployment: Deployment, plan: list[tuple[list[int], str]], ending: str
) -> None:
    task, last = await write(deployment, plan, ending)
    await assert_every_cursor_is_found(deployment, task, last)


async def test_a_reader_resumes_at_every_cursor_of_a_long_life(deployment: Deployment) -> None:
    plan = [([1, 16, 15], "retry"), ([], "take over"), ([3], "take over"), ([], "retry"), ([1, 1, 1], "retry")]
    task, last = await write(deployment, plan, "cancelled")
    await assert_every_cursor_is_found(deployment, task, last)


async def test_a_reader_at_the_end_gets_what_the_next_attempt_writes(deployment: Deployment, broker: Broker) -> None:
    task, last = await write(deployment, [([2], "retry")], "queued")
    after = await broker.log.locate(task, last, (await deployment.record(task)).attempt)
    await deployment.begin(task)
    (found,) = await broker.log.read_after([(task, after, 10)])
    # What it supersedes, and that it begins.
    assert [entry.id for entry in found] == [EntryId(2, last + 2)]


async def test_the_newest_events_are_found_over_many_entries(deployment: Deployment, broker: Broker) -> None:
    begun = await deployment.begin()
    for after in range(2, 252):
        await broker.log.append([append(begun, "x", after=after)])
    for count in (1, 99, 100, 101, 250, 251, 252, 253, 10**9):
        assert await broker.log.newest(begun.record.ref, count) == max(0, 252 - count)


async def test_looking_for_the_newest_events_reads_one_entry(
    deployment: Deployment, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await deployment.begin()
    for after in range(2, 22):
        await broker.log.append([append(begun, "x", after=after)])
    read = []
    run = Wire.run

    async def count(wire: Wire, *command: Argument) -> Any:
        read.append(await run(wire, *command))
        return read[-1]

    monkeypatch.setattr(Wire, "run", count)
    assert await broker.log.newest(begun.record.ref, 10**9) == 0
    ((entry,),) = read
    assert entry[0] == b"1-22"


async def test_streams_are_read_together_each_from_its_place(deployment: Deployment, broker: Broker) -> None:
    (one, end_one), (two, _) = [await write(deployment, [([2, 2], "retry")], "succeeded") for _ in range(2)]
    missing = TaskRef(new_task_id())
    wanted = [(one, EntryId(0, 0), 2), (missing, EntryId(0, 0), 10), (two, EntryId(2, end_one - 1), 10)]
    first, nothing, rest = await broker.log.read_after(wanted)
    assert [entry.id for entry in first] == [EntryId(0, 1), EntryId(1, 2)]
    assert nothing == []
    assert [(entry.id, entry.end) for entry in rest] == [(EntryId(2, end_one), "succeeded")]
    assert await broker.log.exist([one, missing, two]) == [True, False, True]
    assert await broker.log.read_after([]) == await broker.log.exist([]) == []


async def test_a_missing_stream_has_no_events(broker: Broker, redis: Redis) -> None:
    missing = TaskRef(new_task_id())
    assert await broker.log.newest_entry(missing) is None
    assert await broker.log.newest(missing, 10) == 0
    assert await broker.log.read_after([(missing, await broker.log.locate(missing, 0, 0), 10)]) == [[]]
    assert await redis.exists(broker.keys.stream(missing)) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_page_is_cut_where_it_was_asked_to_end(deployment: Deployment, broker: Broker, count: int) -> None:
    task, _ = await write(deployment, [([2, 2, 2], "retry")], "succeeded")
    entries = await deployment.entries(task)
    (page,) = await broker.log.read_after([(task, entries[0].id, count)])
    assert page == entries[1 : 1 + count]
