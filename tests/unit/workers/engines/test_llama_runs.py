"""Runs of llama-index-workflows: what runs again after a death, what is told, what ends a rest."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StepFailedEvent, StopEvent

from tailplane.protocol.errors import Unserialisable, WorkflowChanged
from tailplane.workers.engines import EngineTimeout
from tests.unit.workers.engines.pretend import PATIENCE, PretendTask

#: How often steps ran, by whatever they call themselves; outside of any run.
RAN: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


class Part(Event):
    index: int


class Said(Event):
    index: int
    number: int


class Done(Event):
    index: int


class Wide(Workflow):
    """Three steps at once, all of which say something; the first ends first, and so on."""

    ended: tuple[asyncio.Event, ...] = ()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Part | None:
        for index in range(3):
            ctx.send_event(Part(index=index))
        return None

    @step(num_workers=3)
    async def say(self, ctx: Context, ev: Part) -> Done:
        RAN[f"say {ev.index}"] += 1
        for number in range(3):
            ctx.write_event_to_stream(Said(index=ev.index, number=number))
            await asyncio.sleep(0)
        while ev.index and RAN["done"] < ev.index:
            await asyncio.sleep(0)
        return Done(index=ev.index)

    @step(num_workers=1)
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        RAN["done"] = max(RAN["done"], ev.index + 1)
        found = ctx.collect_events(ev, [Done] * 3)
        return found and StopEvent(result=[each.index for each in found])


async def test_what_steps_say_at_once_stands_once_wherever_the_worker_dies() -> None:
    undisturbed = PretendTask()
    assert await undisturbed.run(Wide(), StartEvent()) == [0, 1, 2]
    once = Counter({("Said", index, number): 1 for index in range(3) for number in range(3)})

    for point in range(undisturbed.points):
        RAN.clear()
        task = PretendTask(dies_at=point)
        assert await task.run(Wide(), StartEvent()) == [0, 1, 2]
        assert Counter((type_, data["index"], data["number"]) for type_, data in task.events) == once, point
        for index in range(3):
            said = [data["number"] for _, data in task.events if data["index"] == index]
            assert said == [0, 1, 2], point


class Chain(Workflow):
    """Five steps in a row, by a loop."""

    @step
    async def go(self, ctx: Context, ev: StartEvent | Part) -> Part | StopEvent:
        index = ev.index if isinstance(ev, Part) else 0
        RAN[f"go {index}"] += 1
        seen = await ctx.store.get("seen", [])
        seen.append(index)
        await ctx.store.set("seen", seen)
        return Part(index=index + 1) if index < 4 else StopEvent(result=seen)


async def test_a_step_that_has_finished_does_not_run_again_and_the_state_is_what_it_left() -> None:
    undisturbed = PretendTask()
    assert await undisturbed.run(Chain(), StartEvent()) == [0, 1, 2, 3, 4]

    for point in range(undisturbed.points):
        RAN.clear()
        task = PretendTask(dies_at=point)
        # A list that is changed where it lies in the state is remembered, too.
        assert await task.run(Chain(), StartEvent()) == [0, 1, 2, 3, 4], point
        # Only the one that the death met.
        assert sum(RAN.values()) <= 6, point


class Question(InputRequiredEvent):
    text: str


class Reply(HumanResponseEvent):
    text: str


class Curious(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        RAN["ask"] += 1
        try:
            reply = await ctx.wait_for_event(
                Reply, waiter_event=Question(text="well?"), timeout=getattr(ev, "patience", None)
            )
        except TimeoutError:
            return StopEvent(result="nobody said anything")
        return StopEvent(result=reply.text)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0)


async def test_a_wait_is_parked_and_goes_on_with_the_message() -> None:
    task, flow = PretendTask(parks=True), Curious()
    assert await task.attempt(flow, StartEvent()) is None
    assert task.events == [("Question", {"text": "well?"})]

    task.send("Reply", {"text": "yes"})
    assert await task.attempt(flow, StartEvent()) == "yes"
    assert (task.attempts, RAN["ask"]) == (2, 2)


async def test_a_wait_that_is_parked_times_out_when_it_was_to() -> None:
    task = PretendTask(parks=True)
    began = time.monotonic()
    assert await task.run(Curious(), StartEvent(patience=0.1)) == "nobody said anything"
    assert task.attempts >= 2
    assert 0.1 <= time.monotonic() - began < 1


class Persistent(Workflow):
    """What it asks for in vain it asks for once more, and then it waits for whatever comes."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        RAN["ask"] += 1
        await ctx.wait_for_event(Reply, waiter_event=Question(text="well?"), timeout=0.05)
        return StopEvent(result="at once")

    @catch_error(for_steps=["ask"])
    async def ask_again(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Question(text="please?"), timeout=None)
        return StopEvent(result=reply.text)


@pytest.mark.parametrize("parks", [False, True], ids=["stays", "parks"])
async def test_a_wait_that_has_timed_out_is_not_waited_for_again(parks: bool) -> None:
    task = PretendTask(parks=parks)
    task.answer = lambda type_, data: ("Reply", {"text": "well"}) if data["text"] == "please?" else None
    assert await task.run(Persistent(), StartEvent()) == "well"
    assert [data["text"] for _, data in task.events] == ["well?", "please?"]
    # To begin to wait, to be told that nobody came, and, as in process, with what came too late.
    assert RAN["ask"] == 3


async def test_a_wait_times_out_when_it_was_to_although_the_worker_died() -> None:
    undisturbed = PretendTask()
    began = time.monotonic()
    assert await undisturbed.run(Curious(), StartEvent(patience=0.2)) == "nobody said anything"
    for point in range(undisturbed.points):
        assert await PretendTask(dies_at=point).run(Curious(), StartEvent(patience=0.2)) == "nobody said anything"
    assert time.monotonic() - began < 0.4 * (undisturbed.points + 1)


async def test_messages_that_are_not_for_the_workflow_are_told_once_wherever_the_worker_dies() -> None:
    async def run(dies_at: int | None) -> PretendTask:
        task = PretendTask(dies_at=dies_at)
        for type_, data in [("Nobody", {}), ("Reply", {"no": "text"}), ("StopEvent", None), (None, {"text": "hello"})]:
            task.send(type_, data)
        assert await task.run(Curious(), StartEvent()) == "hello"
        return task

    undisturbed = await run(None)
    assert [number for number, _ in undisturbed.refused] == [1, 2]
    assert undisturbed.refused[0][1] == "the workflow knows no event 'Nobody'"
    for point in range(undisturbed.points):
        assert (await run(point)).refused == undisturbed.refused, point


class Twice(Workflow):
    """Takes two answers, the second while the first is worked on."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="well?")

    @step(num_workers=1)
    async def answer(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent | None:
        got = [*await ctx.store.get("got", []), ev.response]
        await ctx.store.set("got", got)
        return StopEvent(result=got) if ev.response == "last" else None


async def test_a_refusal_loses_no_message_before_it() -> None:
    async def run(dies_at: int | None) -> PretendTask:
        task = PretendTask(dies_at=dies_at, pauses=50)
        for type_, data in [(None, "first"), ("Nobody", {}), (None, "last"), ("Nobody", {})]:
            task.send(type_, data)
        assert await task.run(Twice(), StartEvent()) == ["first", "last"]
        return task

    undisturbed = await run(None)
    for point in range(undisturbed.points):
        assert [number for number, _ in (await run(point)).refused][:1] == [2], point


class Plain(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="well?")

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


async def test_a_message_without_a_type_is_the_answer() -> None:
    task = PretendTask()
    task.send(None, "yes")
    assert await task.attempt(Plain(), StartEvent()) == "yes"


async def test_the_time_of_the_run_ends_a_rest() -> None:
    with pytest.raises(EngineTimeout, match=r"timed out after 0\.05 seconds"):
        await PretendTask().attempt(Plain(timeout=0.05), StartEvent())


class Failing(Workflow):
    @step
    async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
        raise LookupError("no such thing")


async def test_what_a_step_raises_is_raised() -> None:
    with pytest.raises(LookupError, match="no such thing"):
        await PretendTask().attempt(Failing(), StartEvent())


class Unfit:
    """What nobody can write down."""


class Loose(Event):
    thing: Any


class Untidy(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Loose:
        if ev.what == "state":
            await ctx.store.set("thing", Unfit())
        if ev.what == "stream":
            ctx.write_event_to_stream(Loose(thing=Unfit()))
        return Loose(thing=Unfit() if ev.what == "event" else 1)

    @step
    async def wait(self, ctx: Context, ev: Loose) -> StopEvent:
        await ctx.wait_for_event(Reply, requirements={"thing": (1, 2)})
        return StopEvent()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("event", "an event between two steps can't be kept: .*Unfit"),
        ("state", "the state of the workflow can't be kept: .*thing"),
        ("stream", "Unfit"),
        ("requirements", "what `ctx.wait_for_event` requires can't be kept"),
    ],
)
async def test_what_can_not_be_kept_is_told(what: str, told: str) -> None:
    with pytest.raises(Unserialisable, match=told):
        await PretendTask().attempt(Untidy(), StartEvent(what=what))


class LastWord(Workflow):
    @step
    async def say(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Loose(thing=Unfit()))
        return StopEvent()


async def test_a_last_event_that_can_not_be_written_is_told_too() -> None:
    with pytest.raises(Unserialisable, match="Unfit"):
        await PretendTask().attempt(LastWord(), StartEvent())


class Stuck(Workflow):
    @step
    async def stay(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            RAN["stay"] += 1
            await asyncio.Event().wait()
        finally:
            RAN["left"] += 1
            ctx.write_event_to_stream(Part(index=0))
        return StopEvent()


async def test_a_run_that_is_cancelled_leaves_nothing_running() -> None:
    task = PretendTask()
    running = asyncio.ensure_future(task.attempt(Stuck(), StartEvent()))
    await until(lambda: RAN["stay"])
    task.kill()
    await asyncio.wait({running})
    assert (RAN["left"], task.events) == (1, [])


class Before(Workflow):
    @step
    async def first(self, ev: StartEvent) -> Part:
        return Part(index=1)

    @step
    async def second(self, ev: Part) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def third(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent()


class After(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Done:
        return Done(index=1)

    @step
    async def end(self, ev: Done) -> StopEvent:
        return StopEvent()


async def test_another_code_does_not_go_on_with_what_it_did_not_do() -> None:
    task = PretendTask(parks=True)
    await task.attempt(Before(), StartEvent())
    with pytest.raises(WorkflowChanged, match="does not fit what an earlier attempt has done"):
        await task.attempt(After(), StartEvent())


class Typed(BaseModel):
    numbers: list[int] = []


class Typing(Workflow):
    @step
    async def begin(self, ctx: Context[Typed], ev: StartEvent) -> Part:
        async with ctx.store.edit_state() as state:
            state.numbers.append(1)
        return Part(index=1)

    @step
    async def go_on(self, ctx: Context[Typed], ev: Part) -> StopEvent:
        async with ctx.store.edit_state() as state:
            state.numbers.append(2)
        state = await ctx.store.get_state()
        return StopEvent(result=[type(state).__name__, *state.numbers])


async def test_a_typed_state_has_its_type_after_a_death() -> None:
    for point in range(3):
        assert await PretendTask(dies_at=point).run(Typing(), StartEvent()) == ["Typed", 1, 2]
