"""Fan-out and fan-in by types alone: a step that returns a list, and one that takes a list."""

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Number(Event):
    value: int


class Square(Event):
    value: int
    square: int


class MapReduceFlow(Workflow):
    """Add up the squares of the numbers below a bound."""

    @step
    async def spread(self, ev: StartEvent) -> list[Number]:
        return [Number(value=value) for value in range(ev.bound)]

    @step(num_workers=1)
    async def square(self, ctx: Context, ev: Number) -> Square:
        found = Square(value=ev.value, square=ev.value**2)
        # One at a time, so that they come in order.
        ctx.write_event_to_stream(found)
        return found

    @step
    async def add(self, ctx: Context, squares: list[Square]) -> StopEvent:
        return StopEvent(result=sum(each.square for each in squares))


map_reduce = MapReduceFlow()
