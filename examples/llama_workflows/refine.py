"""A loop: a draft is criticised and written again until it is good enough."""

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Brief(StartEvent):
    topic: str
    wanted: int = 3


class Draft(Event):
    text: str
    version: int


class Criticism(Event):
    text: str
    score: int


class RefineFlow(Workflow):
    """Write a text until its critic is content."""

    @step
    async def write(self, ctx: Context, ev: Brief | Criticism) -> Draft:
        if isinstance(ev, Brief):
            await ctx.store.set("wanted", ev.wanted)
            return Draft(text=ev.topic, version=1)
        version = ev.score + 1
        ctx.write_event_to_stream(ev)
        return Draft(text=f"{ev.text}!", version=version)

    @step
    async def criticise(self, ctx: Context, ev: Draft) -> Criticism | StopEvent:
        ctx.write_event_to_stream(ev)
        if ev.version >= await ctx.store.get("wanted"):
            return StopEvent(result={"text": ev.text, "versions": ev.version})
        return Criticism(text=ev.text, score=ev.version)


refine = RefineFlow()
