"""What the record gets with events: in order, in as many entries as a script takes, to the end, or not at all."""

import asyncio

import pytest

from tailplane.broker.memory import Memory, load
from tailplane.protocol import codec
from tailplane.protocol.cursor import Cursor
from tailplane.protocol.errors import TailplaneError, TaskLost, TooLarge
from tailplane.protocol.events import PlatformType, pack_platform_event
from tailplane.protocol.states import State
from tailplane.workers import Context
from tailplane.workers.branches import Branch
from tailplane.workers.emitter import Emitter
from tailplane.workers.journal import Journal

from .conftest import Bench, Outlet

Fields = list[bytes | str]
# As many as Lua passes on at once.
MOST_ARGUMENTS = 7900


def commit(emitter: Emitter, *fields: bytes | str, told: list[TailplaneError | None] | None = None) -> None:
    def make(seq: Cursor) -> tuple[bytes, Fields]:
        return pack_platform_event(PlatformType.CHECKPOINT, {"seq": seq}), list(fields)

    emitter.commit(make, None if told is None else told.append)


class TestOrder:
    def test_fields_go_with_the_entry_of_their_event(self, outlet: Outlet) -> None:
        emitter, told = outlet.emitter(entry=60), list[TailplaneError | None]()
        emitter.write("x" * 50)
        commit(emitter, "a", "1", told=told)
        emitter.write("y" * 50)
        commit(emitter, "b", "2", told=told)
        seen, counts = [], []
        while append := emitter.take():
            seen.append(list(append.fields))
            emitter.taken()
            counts.append(len(told))
        assert [item for fields in seen for item in fields] == ["a", "1", "b", "2"]
        assert [fields for fields in seen if fields] == [["a", "1"], ["b", "2"]]
        assert (counts[-1], told) == (2, [None, None])

    def test_who_asks_for_room_before_is_told_that_there_is_none(self, outlet: Outlet) -> None:
        # As a task does that shows what its children write.
        emitter = outlet.emitter(emit=200)
        while emitter.unsent_bytes < 200:
            assert emitter.room.is_there
            commit(emitter)
        assert not emitter.room.is_there
        while emitter.take():
            emitter.taken()
        assert emitter.room.is_there

    def test_what_can_t_be_made_does_not_count(self, outlet: Outlet) -> None:
        emitter = outlet.emitter()

        def fail(seq: Cursor) -> tuple[bytes, Fields]:
            raise ValueError(seq)

        with pytest.raises(ValueError, match="3"):
            emitter.commit(fail)
        emitter.write("a")
        append = emitter.take()
        assert append is not None
        assert (append.id.seq, emitter.written) == (3, 3)

    def test_a_text_that_is_being_joined_comes_before(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(coalesces=True, emit=100)
        branch = Branch("")
        for _ in range(10):
            emitter.write("x" * 20, None, branch)
        commit(emitter, "a", "1")
        emitter.write("x" * 20, None, branch)
        entries = []
        while append := emitter.take():
            entries.append(append)
            emitter.taken()
        last = entries[-1].id.seq
        # The commit is not the last one, and each text belongs to the branch that wrote it.
        assert branch.runs == [(3, last - 2), (last, last)]


class TestBounds:
    def test_many_commits_are_more_than_one_entry(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(entry=1_000_000, task=10_000_000, emit=5_000_000)
        for number in range(3000):
            commit(emitter, f"step:{number}", b"x", "stand", b"%d" % number)
        sizes, stands, steps = list[int](), list[bytes | str](), 0
        while append := emitter.take():
            sizes.append(len(append.fields))
            fields = dict(zip(append.fields[::2], append.fields[1::2], strict=True))
            stands.append(fields.pop("stand"))
            steps += len(fields)
            # What each of them has goes with an entry once, as the last one has it.
            assert append.fields.count("stand") == 1
            emitter.taken()
        assert (steps, stands[-1]) == (3000, b"2999")
        assert 2 < len(sizes) < 8
        assert max(sizes) <= MOST_ARGUMENTS

    def test_a_commit_of_many_fields_goes_by_itself(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(entry=1_000_000, task=10_000_000, emit=5_000_000)
        for number in range(4):
            commit(emitter, *(f"state:{number}.{at}" for at in range(2004)))
        sizes = []
        while append := emitter.take():
            sizes.append(len(append.fields))
            emitter.taken()
        assert sizes == [2004] * 4

    def test_large_fields_have_the_bound_of_an_entry(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(entry=10_000)
        for name in ("a", "b", "c"):
            commit(emitter, name, b"x" * 6000)
        sizes = []
        while append := emitter.take():
            sizes.append(sum(map(len, append.fields)))
            emitter.taken()
        assert sizes == [6001] * 3

    async def test_a_task_that_remembers_much_at_once_does(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> None:
            async def work(number: int) -> int:
                return number

            await ctx.gather(*(ctx.step(work, number) for number in range(700)))
            for part in range(4):
                await ctx.state.set("x", part)
            await asyncio.gather(
                *(ctx.state._commit({f"{part}-{n}": n for n in range(240)}, seals=False) for part in range(4))
            )

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        assert (await bench.record(task)).state is State.SUCCEEDED
        memory = await load(bench.broker.tasks.wire, bench.broker.keys, task)
        assert [step.value for _, step in sorted(memory.steps.items()) if step.kind == "step"] != []
        assert (sum(step.has_finished for step in memory.steps.values()), len(memory.state)) == (700, 961)


class TestTheEnd:
    async def test_what_is_left_goes_with_the_last_entry(self, outlet: Outlet) -> None:
        emitter, told = outlet.emitter(), list[TailplaneError | None]()
        emitter.write("a")
        commit(emitter, "a", "1", told=told)
        sealed = await emitter.seal()
        assert (len(sealed.events), sealed.fields) == (2, ["a", "1"])
        # Who still waits must not do so for ever.
        assert [type(each) for each in told] == [TaskLost]

    async def test_what_reaches_the_record_with_the_end_is_there(self, bench: Bench) -> None:
        async def flow(ctx: Context) -> str:
            ctx.memory._journal.call("gather", "left open")
            return "done"

        workflow = bench.workflow(flow)
        task = await bench.submit(workflow)
        await bench.run(workflow)
        steps = (await load(bench.broker.tasks.wire, bench.broker.keys, task)).steps
        assert [step.name for step in steps.values()] == ["left open"]

    def test_what_is_lost_is_told_and_more_is_refused(self, outlet: Outlet) -> None:
        emitter, told = outlet.emitter(), list[TailplaneError | None]()
        commit(emitter, "a", "1", told=told)
        assert emitter.take() is not None
        commit(emitter, "b", "2", told=told)
        lost = TaskLost("it is in other hands")
        emitter.lose(lost)
        assert told == [lost, lost]
        with pytest.raises(TaskLost):
            commit(emitter, "c", "3")

    def test_a_task_that_has_written_all_that_it_may_remembers_no_more(self, outlet: Outlet) -> None:
        emitter = outlet.emitter(events=3)
        emitter.write("a")
        emitter.take()
        with pytest.raises(TooLarge):
            commit(emitter, "a", "1")


class TestTheJournal:
    def journal(self, outlet: Outlet, memory: Memory | None = None, most: int = 100) -> Journal:
        journal = Journal(outlet.emitter(), memory or Memory(), (1, 2), failures=0, now=lambda: 1.0, most=most)
        journal.main.owner = asyncio.current_task()
        return journal

    async def test_the_beginning_stands_with_the_first_call_and_with_none_there_is_nothing(
        self, outlet: Outlet
    ) -> None:
        journal = self.journal(outlet)
        assert journal.memory.stand == [(1, 2)]
        emitter = journal._emitter
        emitter.write("a")
        append = emitter.take()
        assert append is not None
        assert append.fields == ()
        emitter.taken()
        journal.call("step", "work")
        append = emitter.take()
        assert append is not None
        assert append.fields[0] == "step:0"
        assert journal.memory.stand == [(1, 4)]

    async def test_names_are_checked(self, outlet: Outlet) -> None:
        journal = self.journal(outlet)
        for name in ("", "x" * 201):
            with pytest.raises(ValueError, match="1 to 200"):
                journal.call("step", name)
        assert journal.main.next_id == "0"

    async def test_so_many_calls_and_no_more(self, outlet: Outlet) -> None:
        journal = self.journal(outlet, most=2)
        journal.call("step", "a")
        journal.call("step", "b")
        with pytest.raises(TooLarge):
            journal.call("step", "c")

    async def test_a_rewind_of_what_was_written_last_is_a_plain_one(self, outlet: Outlet) -> None:
        journal = self.journal(outlet)
        emitter = journal._emitter
        call = journal.call("step", "work")
        emitter.write("a", None, call.inner)
        emitter.write("b", None, call.inner)
        journal.rewind(call, {"code": "workflow_error"}, 0)
        assert journal.memory.rewound == [(4, 5)]
        append = emitter.take()
        assert append is not None
        *_, rewind = codec.unpack(append.payload)
        assert rewind[1] == {"to": 3, "reason": "step_failed"}

    async def test_a_rewind_of_what_others_wrote_between_says_which(self, outlet: Outlet) -> None:
        journal = self.journal(outlet)
        emitter = journal._emitter
        call = journal.call("step", "work")
        for branch in (call.inner, journal.main, call.inner):
            emitter.write("a", None, branch)
        journal.rewind(call, {"code": "workflow_error"}, 0)
        append = emitter.take()
        assert append is not None
        *_, rewind = codec.unpack(append.payload)
        assert rewind[1] == {"to": 7, "reason": "step_failed", "also": [[4, 4], [6, 6]]}
