"""Errors: a step that is tried again, and one whose failure another step makes up for."""

from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Ask(StartEvent):
    question: str
    fails: int = 2


class Tried(Event):
    step: str
    number: int


class Answer(Event):
    text: str


class Fallback(Event):
    reason: str


class UnreliableFlow(Workflow):
    """Ask a service that fails some times, and do without it where it fails too often."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def fetch(self, ctx: Context, ev: Ask) -> Answer:
        number = ctx.retry_info().retry_number
        ctx.write_event_to_stream(Tried(step="fetch", number=number))
        if number < ev.fails:
            raise ConnectionError(f"no answer to {ev.question!r}, try {number}")
        return Answer(text=f"the answer to {ev.question}")

    @catch_error(for_steps=["fetch"])
    async def do_without(self, ctx: Context, ev: StepFailedEvent) -> Fallback:
        fallback = Fallback(reason=f"{type(ev.exception).__name__} after {ev.attempts} attempts")
        ctx.write_event_to_stream(fallback)
        return fallback

    @step
    async def finish(self, ev: Answer | Fallback) -> StopEvent:
        return StopEvent(result=ev.text if isinstance(ev, Answer) else f"no answer: {ev.reason}")


unreliable = UnreliableFlow()
