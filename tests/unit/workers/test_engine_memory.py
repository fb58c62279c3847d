"""The journal of an engine that does several things at once."""

import asyncio

from tailplane.broker.memory import Message
from tailplane.protocol import codec
from tailplane.workers import Context
from tailplane.workers.branches import CURRENT

from .conftest import PATIENCE, Bench
from .durability import Gate, lose, shown


async def test_what_a_branch_wrote_stands_when_an_entry_tells_of_its_end(bench: Bench) -> None:
    gate = Gate()

    async def flow(ctx: Context) -> None:
        ctx.write_event_to_stream("body" if not ctx.memory.entries else "body again")

        async def write(name: str, text: str) -> None:
            CURRENT.set(branches[name])
            ctx.write_event_to_stream(text)

        names = ["a", "b"] if not ctx.memory.entries else ["b"]
        branches = {name: ctx.memory.branch(name) for name in names}
        for name in names:
            await asyncio.create_task(write(name, f"{name} begins"))
        for name in names:
            await asyncio.create_task(write(name, f"{name} ends"))
        await ctx.memory.append(b"a" if "a" in names else b"b", [branches[names[0]]])
        await gate.pass_or_hang()

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await lose(bench, await bench.attempt(workflow), lambda: gate.arrivals >= 1)
    await bench.run(workflow)
    # What b had written between a's events was taken back, and a's was not.
    assert await shown(bench, task) == ["body", "a begins", "a ends", "body again", "b begins", "b ends"]
    steps = {event.data: event.step for event in await bench.events(task) if event.kind == "workflow"}
    assert (steps["body"], steps["a begins"], steps["b ends"]) == (None, "a", "b")


async def test_a_refusal_stands_with_its_entry_and_nothing_else_does(bench: Bench) -> None:
    gate = Gate()
    entries = []

    async def flow(ctx: Context) -> None:
        entries.append(list(ctx.memory.entries))
        ctx.write_event_to_stream("body")
        if not ctx.memory.entries:
            await ctx.memory.refuse(Message(7, "Nobody", None), "no such event", b"refused")
        await gate.pass_or_hang()

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    await lose(bench, await bench.attempt(workflow), lambda: gate.arrivals >= 1)
    await bench.run(workflow)
    assert entries == [[], [b"refused"]]
    assert await shown(bench, task) == ["body"]
    events = await bench.events(task)
    (told,) = [event for event in events if event.type == "task.checkpoint"]
    assert told.data == {"refused": {"number": 7, "type": "Nobody", "error": "no such event"}}
    assert not any(first <= told.seq <= last for first, last in (await bench.record(task)).superseded_ranges)


async def test_a_task_that_is_parked_for_a_while_only_runs_again_by_itself(bench: Bench) -> None:
    async def flow(ctx: Context) -> str:
        if ctx.attempt == 2:
            return "by itself"
        return str((await ctx.memory.message(0, within=0.3)).data)

    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    async with asyncio.timeout(PATIENCE):
        await attempt.run()
        await attempt.unwound()
        while not (due := await bench.broker.parking.due(await bench.broker.queue.now_ms(), 10)):
            await asyncio.sleep(0.01)
    await bench.broker.parking.unpark(due[0])
    await bench.run(workflow)
    assert (await bench.record(task)).result == codec.pack("by itself")
