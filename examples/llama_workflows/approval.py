"""A human in the loop, in the middle of a step: `ctx.wait_for_event`, for the answer of one person after the other."""

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Request(StartEvent):
    amount: int


class Approved(Event):
    amount: int
    by: list[str]


class ApprovalRequired(InputRequiredEvent):
    who: str
    amount: int


class Decision(HumanResponseEvent):
    who: str
    granted: bool


class ApprovalFlow(Workflow):
    """Let two people decide on an amount."""

    @step
    async def decide(self, ctx: Context, ev: Request) -> Approved | StopEvent:
        people = ["manager", "accountant"]
        for who in people:
            decision = await ctx.wait_for_event(
                Decision,
                waiter_id=who,
                waiter_event=ApprovalRequired(who=who, amount=ev.amount),
                requirements={"who": who},
                timeout=None,
            )
            if not decision.granted:
                return StopEvent(result={"paid": 0, "refused_by": who})
        return Approved(amount=ev.amount, by=people)

    @step
    async def pay(self, ctx: Context, ev: Approved) -> StopEvent:
        ctx.write_event_to_stream(ev)
        return StopEvent(result={"paid": ev.amount, "refused_by": None})


approval = ApprovalFlow()
