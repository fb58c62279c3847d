"""What a task remembers: fields of its record that come with entries, in the same step, or not at all."""

import contextlib
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tailplane.broker import Append, Begun, Broker, Closing, TaskRef
from tailplane.broker.memory import Memory, StepRecord, load
from tailplane.protocol import ranges
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.events import PlatformType, join_events, pack_event, pack_platform_event
from tailplane.protocol.ids import EntryId
from tailplane.protocol.ranges import Range
from tailplane.protocol.states import Trigger

from .conftest import OTHER_WORKER, Deployment, assert_whole, closing

WAITED = [pack_platform_event(PlatformType.PARKED, {})]


def entry(begun: Begun, *written: object, after: int | None = None, **fields: bytes) -> Append:
    """Return an entry with fields of the record, as its attempt writes it."""
    after = begun.seq if after is None else after
    payload = join_events([pack_event(value) for value in written])
    flat = [item for name, value in fields.items() for item in (name.replace("__", ":"), value)]
    entry_id = EntryId(begun.attempt, after + len(written))
    return Append(begun.record.ref, entry_id, payload, begun.entries, begun.record.worker_id, flat)


async def fields_of(broker: Broker, task: TaskRef, *names: str) -> list[bytes | None]:
    found: list[bytes | None] = await broker.tasks.wire.run("HMGET", broker.keys.task(task), *names)
    return found


class TestAppend:
    async def test_fields_come_with_their_entry(self, deployment: Deployment, broker: Broker) -> None:
        one, two = await deployment.begin(), await deployment.begin()
        sent = [
            entry(one, "a", step__0=b"x", stand=b"y"),
            entry(two, "b"),
        ]
        assert await broker.log.append(sent) == [None, None]
        assert await fields_of(broker, one.record.ref, "step:0", "stand") == [b"x", b"y"]
        assert await fields_of(broker, two.record.ref, "step:0", "stand") == [None, None]

    async def test_a_refused_entry_writes_none(self, deployment: Deployment, broker: Broker) -> None:
        first = await deployment.begin()
        task = first.record.ref
        await deployment.begin(task)
        zombie = entry(first, "late", step__0=b"x")
        foreign = zombie._replace(worker=OTHER_WORKER)
        hole = entry(first, "late", after=first.seq + 5, step__0=b"x")._replace(entries=first.entries + 3)
        for refused in (zombie, foreign, hole, zombie._replace(entries=-1)):
            (refusal,) = await broker.log.append([refused])
            assert refusal is not None
        assert await fields_of(broker, task, "step:0") == [None]

    async def test_beside_a_refused_one_the_others_get_theirs(self, deployment: Deployment, broker: Broker) -> None:
        lost, well = await deployment.begin(), await deployment.begin()
        await deployment.begin(lost.record.ref)
        outcome = await broker.log.append([entry(lost, "a", step__0=b"no"), entry(well, "b", step__0=b"yes")])
        assert [each is None for each in outcome] == [False, True]
        assert await fields_of(broker, lost.record.ref, "step:0") == [None]
        assert await fields_of(broker, well.record.ref, "step:0") == [b"yes"]

    async def test_as_many_fields_as_an_emitter_lets_one_entry_have(
        self, deployment: Deployment, broker: Broker
    ) -> None:
        begun = await deployment.begin()
        many = {f"state__{number}": b"x" for number in range(1500)}
        assert await broker.log.append([entry(begun, "a", **many)]) == [None]
        assert len((await load(broker.tasks.wire, broker.keys, begun.record.ref)).state) == 1500
        # And with the end of an attempt, which brings some of its own.
        last = closing(begun, Trigger.SUCCEED, after=begun.seq + 1)
        fields = [*(item for name, value in many.items() for item in (name, value)), *last.fields]
        await broker.tasks.finish(begun.record.ref, Closing(last.trigger, 1, last.after, last.packed, fields))
        assert await fields_of(broker, begun.record.ref, "state__1499") == [b"x"]


async def test_a_lost_reply_and_a_second_sending_write_fields_once(
    deployment: Deployment, lossy_broker: Broker, lose_next_reply: Callable[[], None]
) -> None:
    begun = await deployment.begin()
    sent = entry(begun, "a", step__0=b"x")
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await lossy_broker.log.append([sent])
    assert await fields_of(deployment.broker, begun.record.ref, "step:0") == [b"x"]
    # Meanwhile somebody changes it: what is sent again must not undo that.
    await deployment.broker.tasks.wire.run("HSET", deployment.broker.keys.task(begun.record.ref), "step:0", b"newer")
    (refusal,) = await lossy_broker.log.append([sent])
    assert refusal is not None
    assert refusal.means_already_there(sent.id)
    assert await fields_of(deployment.broker, begun.record.ref, "step:0") == [b"newer"]


class TestRepair:
    async def lose(self, broker: Broker, redis: Redis, begun: Begun, sent: list[Append]) -> None:
        """Let the store take entries, and forget them."""
        keys = [broker.keys.stream(begun.record.ref), broker.keys.task(begun.record.ref)]
        before = [await redis.dump(key) for key in keys]
        for each in sent:
            assert await broker.log.append([each]) == [None]
        for key, value in zip(keys, before, strict=True):
            await redis.restore(key, 0, value, replace=True)

    async def test_what_a_failover_lost_comes_back_with_its_fields(
        self, deployment: Deployment, broker: Broker, redis: Redis
    ) -> None:
        begun = await deployment.begin()
        task = begun.record.ref
        first = entry(begun, "a", step__0=b"open")
        second = entry(begun, "b", after=first.id.seq, step__0=b"done", stand=b"y")._replace(entries=begun.entries + 1)
        await self.lose(broker, redis, begun, [first, second])
        assert await fields_of(broker, task, "step:0", "stand") == [None, None]
        repaired = await broker.tasks.repair(task, 1, deployment.worker, begun.opening.id, [first, second])
        assert repaired == begun.entries + 2
        assert await fields_of(broker, task, "step:0", "stand") == [b"done", b"y"]
        assert_whole(await deployment.events(task))

    async def test_who_holds_the_attempt_no_more_brings_none(
        self, deployment: Deployment, broker: Broker, redis: Redis
    ) -> None:
        begun = await deployment.begin()
        task = begun.record.ref
        first = entry(begun, "a", step__0=b"open")
        await self.lose(broker, redis, begun, [first])
        await broker.tasks.begin(task, OTHER_WORKER, "host-2")
        with contextlib.suppress(Exception):
            await broker.tasks.repair(task, 1, deployment.worker, begun.opening.id, [first])
        assert await fields_of(broker, task, "step:0") == [None]


async def finish_with(deployment: Deployment, begun: Begun, trigger: Trigger, after: int, stand: list[Range]) -> None:
    last = closing(begun, trigger, after=after)
    fields = [*last.fields, "stand", ranges.pack(stand)] if stand else last.fields
    await deployment.broker.tasks.finish(
        begun.record.ref, Closing(trigger, begun.attempt, after, last.packed, fields, worker=deployment.worker)
    )


async def rewinds(deployment: Deployment, begun: Begun) -> list[object]:
    events = await deployment.events(begun.record.ref)
    return [event.data for event in events if event.type == "task.rewind" and event.attempt == begun.attempt]


class TestBeginning:
    """What stands is not taken back by the next attempt: `task.rewind` says what is."""

    async def test_the_next_attempt_takes_back_what_follows_the_last_that_stands(self, deployment: Deployment) -> None:
        first = await deployment.begin()
        await deployment.broker.log.append([entry(first, *"abcd")])
        await finish_with(deployment, first, Trigger.RETRY, 6, [(1, 4)])
        second = await deployment.begin(first.record.ref)
        assert await rewinds(deployment, second) == [{"to": 4, "reason": "failed"}]
        record = await deployment.record(first.record.ref)
        # Its last event is 7: the platform's; the opening of the second attempt follows.
        assert (record.stand, record.superseded, record.superseded_ranges) == (((1, 4),), 7, [(5, 7)])

    async def test_and_what_lies_between(self, deployment: Deployment) -> None:
        first = await deployment.begin()
        await deployment.broker.log.append([entry(first, *"abcdef")])
        await finish_with(deployment, first, Trigger.HAND_BACK, 8, [(1, 3), (5, 5), (7, 7)])
        second = await deployment.begin(first.record.ref)
        assert await rewinds(deployment, second) == [{"to": 7, "reason": "handed_back", "also": [[4, 4], [6, 6]]}]
        record = await deployment.record(first.record.ref)
        assert record.superseded_ranges == [(4, 4), (6, 6), (8, 9)]

    async def test_what_an_earlier_beginning_took_back_is_not_told_again(self, deployment: Deployment) -> None:
        first = await deployment.begin()
        task = first.record.ref
        await deployment.broker.log.append([entry(first, *"ab")])
        await finish_with(deployment, first, Trigger.RETRY, 4, [(1, 2), (4, 4)])
        second = await deployment.begin(task)
        assert await rewinds(deployment, second) == [{"to": 4, "reason": "failed", "also": [[3, 3]]}]
        await deployment.broker.log.append([entry(second, *"cd")])
        stand = [(1, 2), (4, 4), (6, second.seq), (second.seq + 2, second.seq + 2)]
        await finish_with(deployment, second, Trigger.RETRY, second.seq + 2, stand)
        third = await deployment.begin(task)
        also = [[second.seq + 1, second.seq + 1]]
        assert await rewinds(deployment, third) == [{"to": second.seq + 2, "reason": "failed", "also": also}]

    async def test_where_nothing_stands_all_is_taken_back(self, deployment: Deployment) -> None:
        first = await deployment.begin()
        await deployment.broker.log.append([entry(first, "a")])
        await finish_with(deployment, first, Trigger.RETRY, 3, [])
        assert await rewinds(deployment, await deployment.begin(first.record.ref)) == [{"to": 0, "reason": "failed"}]

    async def test_a_task_that_waited_goes_on_without_a_rewind(self, deployment: Deployment) -> None:
        first = await deployment.begin()
        await deployment.broker.log.append([entry(first, "a")])
        await finish_with(deployment, first, Trigger.WAIT, 3, [(1, 4)])
        second = await deployment.begin(first.record.ref)
        assert await rewinds(deployment, second) == []
        assert (second.seq, (await deployment.record(first.record.ref)).superseded_ranges) == (5, [])

    async def test_but_for_what_was_written_beside_its_wait(self, deployment: Deployment) -> None:
        first = await deployment.begin()
        await deployment.broker.log.append([entry(first, "a")])
        await finish_with(deployment, first, Trigger.WAIT, 3, [(1, 2), (4, 4)])
        second = await deployment.begin(first.record.ref)
        assert await rewinds(deployment, second) == [{"to": 4, "reason": "waited", "also": [[3, 3]]}]
        assert (await deployment.record(first.record.ref)).superseded_ranges == [(3, 3)]

    async def test_a_worker_that_was_lost_takes_only_the_rest_along(self, deployment: Deployment) -> None:
        first = await deployment.begin()
        task = first.record.ref
        await deployment.broker.log.append([entry(first, *"ab", stand=ranges.pack([(1, 3)]))])
        second = await deployment.begin(task)
        assert await rewinds(deployment, second) == [{"to": 3, "reason": "worker_lost"}]

    async def test_what_a_zombie_commits_in_the_last_moment_is_not_taken_back(
        self, deployment: Deployment, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = await deployment.begin()
        task = first.record.ref
        await broker.log.append([entry(first, "a", stand=ranges.pack([(1, 3)]))])
        asked: list[object] = []
        begin = type(broker.tasks)._begin

        async def begin_slowly(self: object, *args: object) -> object:
            asked.append(args)
            # Between what is read of the record and the beginning that rests on it.
            if len(asked) == 3:
                late = entry(first, "b", after=3, stand=ranges.pack([(1, 4)]))._replace(entries=first.entries + 1)
                assert await broker.log.append([late]) == [None]
            return await begin(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(type(broker.tasks), "_begin", begin_slowly)
        second = await deployment.begin(task)
        assert await rewinds(deployment, second) == [{"to": 4, "reason": "worker_lost"}]
        assert len(asked) == 4
        assert_whole(await deployment.events(task))


class TestMemory:
    def test_a_step_is_packed_as_what_is_known_of_it(self) -> None:
        step = StepRecord(name="load", started_at=1.5, attempt=2)
        assert StepRecord.parse(step.packed()) == step
        full = StepRecord(
            name="load", kind="wait", started_at=1.5, attempt=2, ended_at=3.0, seqs=(3, 9), value=b"\xc0",
            error={"code": "x", "type": "E", "message": "m", "args": [1]}, until=9.0, message=4, child="t_1",
            digest="d",
        )  # fmt: skip
        assert StepRecord.parse(full.packed()) == full
        assert len(step.packed()) < len(full.packed())

    def test_what_a_newer_program_wrote_is_left_out(self) -> None:
        assert StepRecord.parse(b"\x84\xa1n\xa1a\xa1t\x01\xa1a\x01\xa1z\x05") == StepRecord(
            name="a", started_at=1, attempt=1
        )

    def test_fields_are_told_by_how_they_begin(self) -> None:
        step = StepRecord(name="load", started_at=1, attempt=1)
        memory = Memory.parse(
            {
                "state": b"running", "step:0": step.packed(), "step:0/1": step.packed(), "journal:10": b"k",
                "journal:9": b"j", "state:a": b"\x01", "inbox": b"1", "inbox:1": b"\x92\xa1a\x02",
                "inbox-key:1": b"1 x", "inbox-seen": b"1", "refused:7": b"", "stand": ranges.pack([(1, 2)]),
                "rewound": ranges.pack([(4, 4)]),
            }
        )  # fmt: skip
        assert memory.steps == {"0": step, "0/1": step}
        assert (memory.journal, memory.state) == ([b"j", b"k"], {"a": b"\x01"})
        assert [(each.number, each.type, each.data) for each in memory.messages] == [(1, "a", 2)]
        assert memory.refused == {7}
        assert (memory.stand, memory.rewound) == ([(1, 2)], [(4, 4)])
