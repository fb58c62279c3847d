"""Fan-out and fan-in by hand: one event for each item, four at once, gathered by `collect_events`."""

import asyncio

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Item(Event):
    index: int
    text: str


class Counted(Event):
    index: int
    text: str
    letters: int


class FanOutFlow(Workflow):
    """Count the letters of words, four at a time."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Item | None:
        words = ev.text.split()
        await ctx.store.set("words", len(words))
        for index, word in enumerate(words):
            ctx.send_event(Item(index=index, text=word))
        return None

    @step(num_workers=4)
    async def count(self, ev: Item) -> Counted:
        await asyncio.sleep(0.001 * (ev.index % 3))
        return Counted(index=ev.index, text=ev.text, letters=len(ev.text))

    @step(num_workers=1)
    async def join(self, ctx: Context, ev: Counted) -> StopEvent | None:
        found = ctx.collect_events(ev, [Counted] * await ctx.store.get("words"))
        if found is None:
            return None
        # They end in any order; what is shown has one.
        for each in sorted(found, key=lambda each: each.index):
            ctx.write_event_to_stream(each)
        return StopEvent(result=sum(each.letters for each in found))


fan_out = FanOutFlow()
