"""Workflows that are killed in the middle, and note outside of Tailplane what they have really done."""

import asyncio
import os
import random
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from tailplane.workers import Context, workflow

LETTERS = "abcdef"


class Approval(BaseModel):
    approved: bool


def note(folder: str, what: str) -> None:
    """Append a line to a file: one write, which no kill can cut."""
    with (Path(folder) / "notes").open("a") as notes:
        notes.write(f"{what}\n")


@workflow(retries=30)
async def five_steps(ctx: Context, folder: str, deaths: int) -> str:
    """Write a text in five steps; in the fourth the process is to be killed, so many times."""

    async def write(number: int) -> str:
        note(folder, f"step {number}")
        text = []
        for at, letter in enumerate(LETTERS):
            ctx.write_event_to_stream(f"{number}{letter} ")
            text.append(f"{number}{letter} ")
            await asyncio.sleep(0.002)
            if number == 4 and at == len(LETTERS) // 2:
                # From here on somebody kills this process.
                left = deaths - sum(1 for line in (Path(folder) / "notes").read_text().splitlines() if line == "step 4")
                if left >= 0:
                    note(folder, f"pid {os.getpid()}")
                    await asyncio.Event().wait()
        return "".join(text)

    ctx.write_event_to_stream("begin ")
    whole = ""
    for number in range(1, 6):
        whole += await ctx.step(write, number, name=f"write {number}")
        ctx.write_event_to_stream(f"({number}) ")
    ctx.write_event_to_stream("end")
    return whole


@workflow
async def approval(ctx: Context, folder: str) -> dict[str, Any]:
    """Do something, ask, and do something else."""

    async def draft() -> str:
        note(folder, f"draft {os.getpid()}")
        ctx.write_event_to_stream("drafted ")
        return "draft"

    async def publish(text: str) -> str:
        note(folder, f"publish {os.getpid()}")
        ctx.write_event_to_stream("published")
        return text.upper()

    text = await ctx.step(draft)
    ctx.write_event_to_stream("may I? ")
    answer: Approval = await ctx.wait_for_event(Approval, timeout=2 * 3600)
    return {"text": await ctx.step(publish, text), "approved": answer.approved}


@workflow
async def meet(ctx: Context, folder: str, count: int) -> int:
    """Wait until so many of these run at once; return in which process this one does."""
    note(folder, f"here {os.getpid()}")
    while sum(line.startswith("here ") for line in (Path(folder) / "notes").read_text().splitlines()) < count:
        await asyncio.sleep(0.01)
    return os.getpid()


@workflow
async def leaf(ctx: Context, number: int) -> int:
    """Write and return a number, after a while."""
    ctx.write_event_to_stream(f"leaf {number}")
    await asyncio.sleep(0.05 * number)
    return number


@workflow
async def forest(ctx: Context, depth: int) -> int:
    """Start children that start children, and wait for all of them."""
    if depth == 0:
        # Longer than any test takes.
        return int(await ctx.run_child("leaf", 10_000))
    return sum(await ctx.gather(*(ctx.run_child("forest", depth - 1) for _ in range(2))))


@workflow
async def fan_out(ctx: Context, count: int) -> int:
    """Run children at once, and show what they write."""
    ctx.write_event_to_stream("begin")
    got = await ctx.gather(*(ctx.run_child("leaf", number, merge=f"leaf {number}") for number in range(count)))
    ctx.write_event_to_stream("end")
    return sum(got)


Action = tuple[Literal["step", "gather", "ask", "child", "flaky"], int]


def errands(seed: int) -> list[Action]:
    """Return what a task of that seed does, one after the other."""
    draw = random.Random(f"errand {seed}")
    kinds: list[Literal["step", "gather", "ask", "child", "flaky"]] = ["step", "gather", "ask", "child", "flaky"]
    return [(draw.choice(kinds), draw.randrange(2, 5)) for _ in range(6)]


def written(seed: int) -> dict[str | None, list[str]]:
    """Return what a task of that seed writes, on each channel in order, if nothing disturbs it."""
    found: dict[str | None, list[str]] = {None: []}
    for number, (kind, count) in enumerate(errands(seed)):
        found[None].append(f"{number} {kind}")
        match kind:
            case "step" | "flaky":
                found[None] += [f"{number}.{at}" for at in range(count)]
            case "gather":
                for piece in range(count):
                    expected = [f"{number} begin", f"{number} one", f"{number} two", f"{number} end"]
                    found.setdefault(f"piece {piece}", []).extend(expected)
            case "ask":
                found[None].append(f"got {number}")
            case "child":
                found.setdefault("kid", []).extend(f"{number}.{at}" for at in range(count))
    found[None].append("done")
    return found


@workflow(retries=40)
async def errand(ctx: Context, folder: str, seed: int) -> list[str]:
    """Do what the seed says, durably."""
    did: list[str] = []

    async def say(number: int, count: int, fails: bool = False) -> str:
        note(folder, f"{seed} {number}")
        for at in range(count):
            ctx.write_event_to_stream(f"{number}.{at}")
            await asyncio.sleep(0.01)
        if fails and random.random() < 0.5:
            raise OSError("by chance")
        return str(number)

    async def piece(number: int, name: int) -> str:
        channel = f"piece {name}"

        async def part(what: str) -> str:
            note(folder, f"{seed} {number} {name} {what}")
            ctx.write_event_to_stream(f"{number} {what}", channel=channel)
            await asyncio.sleep(random.random() * 0.05)
            return what

        ctx.write_event_to_stream(f"{number} begin", channel=channel)
        for what in ("one", "two"):
            await ctx.step(part, what)
        ctx.write_event_to_stream(f"{number} end", channel=channel)
        return channel

    for number, (kind, count) in enumerate(errands(seed)):
        ctx.write_event_to_stream(f"{number} {kind}")
        match kind:
            case "step":
                did.append(await ctx.step(say, number, count))
            case "flaky":
                did.append(await ctx.step(say, number, count, fails=True, retries=50, retry_delay=0.01))
            case "gather":
                did += await ctx.gather(*(piece(number, name) for name in range(count)))
            case "ask":
                got = await ctx.wait_for_event(f"answer {number}")
                ctx.write_event_to_stream(f"got {got}")
                did.append(f"got {got}")
            case "child":
                did.append(str(await ctx.run_child("kid", {"number": number, "count": count}, merge="kid")))
    ctx.write_event_to_stream("done")
    return did


@workflow(retries=40)
async def kid(ctx: Context, number: int, count: int) -> int:
    """Write a few events."""
    for at in range(count):
        ctx.write_event_to_stream(f"{number}.{at}")
        await asyncio.sleep(0.02)
    return count
