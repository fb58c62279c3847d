"""Nested workflows: a step runs another workflow, and hands its events on."""

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Source(Event):
    topic: str
    title: str


class Chapter(Event):
    topic: str
    text: str


class SearchFlow(Workflow):
    """Look for sources on one topic."""

    @step
    async def search(self, ctx: Context, ev: StartEvent) -> StopEvent:
        titles = [f"{ev.topic} {number}" for number in (1, 2)]
        for title in titles:
            ctx.write_event_to_stream(Source(topic=ev.topic, title=title))
        return StopEvent(result=titles)


class ResearchFlow(Workflow):
    """Write a report on topics, with sources that another workflow looks for."""

    def __init__(self, search: SearchFlow) -> None:
        super().__init__()
        self.search = search

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> list[Chapter]:
        chapters = []
        for topic in ev.topics:
            run = self.search.run(topic=topic)
            async for event in run.stream_events():
                if isinstance(event, Source):
                    ctx.write_event_to_stream(event)
            chapters.append(Chapter(topic=topic, text=", ".join(await run)))
        return chapters

    @step
    async def bind(self, ctx: Context, chapters: list[Chapter]) -> StopEvent:
        return StopEvent(result={each.topic: each.text for each in chapters})


research = ResearchFlow(SearchFlow())
