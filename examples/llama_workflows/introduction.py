"""A human in the loop, as steps: one asks, the next one takes the answer."""

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Progress(Event):
    text: str


class IntroductionFlow(Workflow):
    """Ask somebody for a name, and greet by it."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        ctx.write_event_to_stream(Progress(text="somebody is at the door"))
        return InputRequiredEvent(prefix="What is your name? ")

    @step
    async def greet(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent:
        ctx.write_event_to_stream(Progress(text=f"it is {ev.response}"))
        return StopEvent(result=f"Hello {ev.response}!")


introduction = IntroductionFlow()
