"""Workflows made up at random, lost at random: whatever they are made of, readers see what an undisturbed run shows.

RANDOM_WORKFLOWS=2000 makes up so many.
"""

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from tailplane.client.rewinds import Accumulated
from tailplane.protocol import codec
from tailplane.protocol.states import State
from tailplane.workers import Context
from tailplane.workers.attempt import Attempt, Stop

from .conftest import PATIENCE, Bench, eventually
from .durability import Gate

Body = list[tuple[str, Any]]


def make_up(chance: random.Random, depth: int = 0) -> Body:
    """Return what a piece of a workflow does, one thing after the other."""
    body: Body = []
    for _ in range(chance.randint(1, 4)):
        kind = chance.choice(["write", "write", "step", "gather", "wait", "fails", "tries", "pause"])
        match kind:
            case "step" | "fails" | "tries":
                body.append((kind, make_up(chance, depth + 1) if depth < 2 else [("write", None)]))
            case "gather":
                pieces = chance.randint(0, 3) if depth < 2 else 0
                body.append((kind, [make_up(chance, depth + 1) for _ in range(pieces)]))
            case _:
                body.append((kind, None))
    return body


@dataclass
class Player:
    """Plays a made-up workflow, and hangs at its n-th action of an attempt."""

    body: Body
    gate: Gate
    hangs: list[int]
    waits: list[str] = field(default_factory=list)
    ran: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    actions: int = 0

    async def act(self) -> None:
        self.actions += 1
        lost = self.gate.arrivals
        if lost < len(self.hangs) and self.actions == self.hangs[lost]:
            await self.gate.pass_or_hang()
        await asyncio.sleep(0)

    async def play(self, ctx: Context, body: Body, path: str) -> str:
        for number, (kind, inside) in enumerate(body):
            here = f"{path}.{number}"
            await self.act()
            match kind:
                case "write":
                    ctx.write_event_to_stream(here)
                case "step" | "fails" | "tries":
                    await self.step(ctx, kind, inside, here)
                case "gather":
                    pieces = (self.play(ctx, piece, f"{here}.{n}") for n, piece in enumerate(inside))
                    await ctx.gather(*pieces)
                case "wait":
                    assert await ctx.wait_for_event(here) == here
                case "pause":
                    await asyncio.sleep(0.001)
        return path

    async def step(self, ctx: Context, kind: str, inside: Body, here: str) -> None:
        tries = Counter[int]()

        async def work() -> str:
            self.ran[here] += 1
            tries[ctx.attempt] += 1
            await self.play(ctx, inside, here)
            if kind == "fails" or (kind == "tries" and tries[ctx.attempt] == 1):
                raise LookupError(here)
            self.finished[here] += 1
            return here

        try:
            came = await ctx.step(work, name=here, retries=kind == "tries", retry_delay=0)
        except LookupError as error:
            came = f"failed: {error}"
        assert came == (f"failed: {here}" if kind == "fails" else here)


def expected(body: Body, path: str) -> list[Any]:
    """Return what is shown, in order; what comes in any order is a list of lists."""
    said: list[Any] = []
    for number, (kind, inside) in enumerate(body):
        here = f"{path}.{number}"
        if kind == "write":
            said.append(here)
        elif kind == "gather":
            said.append([expected(piece, f"{here}.{n}") for n, piece in enumerate(inside)])
        elif kind in ("step", "fails", "tries"):
            said += expected(inside, here)
    return said


def flat(said: list[Any]) -> list[str]:
    return [each for item in said for each in ([item] if isinstance(item, str) else flat(item))]


def assert_in_order(said: list[Any], place: dict[str, int], after: int = -1) -> int:
    """Make sure that what is said one after the other is shown so; return where its last event is."""
    for item in said:
        if isinstance(item, str):
            assert place[item] > after, (item, sorted(place, key=place.__getitem__))
            after = place[item]
        else:
            after = max([after, *(assert_in_order(piece, place, after) for piece in item)])
    return after


def waits_in(body: Body, path: str) -> list[str]:
    found: list[str] = []
    for number, (kind, inside) in enumerate(body):
        here = f"{path}.{number}"
        match kind:
            case "wait":
                found.append(here)
            case "gather":
                found += [each for n, piece in enumerate(inside) for each in waits_in(piece, f"{here}.{n}")]
            case "step" | "fails" | "tries":
                found += waits_in(inside, here)
    return found


@pytest.mark.parametrize("seed", range(int(os.environ.get("RANDOM_WORKFLOWS", "60"))))
async def test_whatever_is_lost_readers_see_each_thing_once_and_in_order(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    body = make_up(chance)
    gate = Gate(losses=3)
    player = Player(body, gate, sorted(chance.randint(1, 25) for _ in range(3)))

    async def flow(ctx: Context) -> str:
        player.actions = 0
        return await player.play(ctx, body, "w")

    workflow = bench.workflow(flow, retries=9)
    task = await bench.submit(workflow)
    for wait in waits_in(body, "w"):
        await bench.broker.inbox.deliver(task, wait, wait)
    while not (await bench.record(task)).state.is_terminal:
        await run_or_lose(bench, await bench.attempt(workflow), gate)
    record = await bench.record(task)
    assert (record.state, record.error, record.result) == (State.SUCCEEDED, None, codec.pack("w"))
    accumulated = Accumulated()
    for event in await bench.events(task):
        accumulated.add(event)
    shown = [event.data for event in accumulated.events]
    wanted = expected(body, "w")
    assert Counter(shown) == Counter(flat(wanted))
    assert_in_order(wanted, {data: place for place, data in enumerate(shown)})
    # The record says the same to who asks for it.
    superseded = {seq for first, last in record.superseded_ranges for seq in range(first, last + 1)}
    assert [e.data for e in await bench.events(task) if e.kind == "workflow" and e.seq not in superseded] == shown


async def run_or_lose(bench: Bench, attempt: Attempt, gate: Gate) -> None:
    """Run an attempt to its end, or to the gate, where it is lost."""
    before, running = gate.arrivals, asyncio.ensure_future(attempt.run())
    await eventually(lambda: gate.arrivals > before or running.done())
    if not running.done():
        await eventually(lambda: attempt.unsent_bytes == 0)
        attempt.stop(Stop.LOST)
        await asyncio.wait_for(attempt.unwound(), PATIENCE)
        await bench.broker.queue.reap(bench.platform.worker, leaves=True)
        await bench.register()
    await running
