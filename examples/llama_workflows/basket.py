"""Typed state: what the steps of a run share, in a pydantic model."""

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Line(BaseModel):
    name: str
    price: float


class Basket(BaseModel):
    lines: list[Line] = Field(default_factory=list)
    discount: float = 0.0


class Order(StartEvent):
    prices: dict[str, float]


class Filled(Event):
    lines: int


class Priced(Event):
    total: float


class BasketFlow(Workflow):
    """Fill a basket, grant a discount, and add it up."""

    @step
    async def fill(self, ctx: Context[Basket], ev: Order) -> Filled:
        for name, price in ev.prices.items():
            async with ctx.store.edit_state() as basket:
                basket.lines.append(Line(name=name, price=price))
        filled = Filled(lines=len((await ctx.store.get_state()).lines))
        ctx.write_event_to_stream(filled)
        return filled

    @step
    async def discount(self, ctx: Context[Basket], ev: Filled) -> Priced:
        await ctx.store.set("discount", 0.1 if ev.lines > 2 else 0.0)
        state = await ctx.store.get_state()
        priced = Priced(total=round(sum(line.price for line in state.lines) * (1 - state.discount), 2))
        ctx.write_event_to_stream(priced)
        return priced

    @step
    async def pay(self, ctx: Context[Basket], ev: Priced) -> StopEvent:
        state = await ctx.store.get_state()
        return StopEvent(result={"total": ev.total, "basket": state.model_dump()})


basket = BasketFlow()
