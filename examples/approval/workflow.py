"""A refund that somebody has to approve: steps that are done once, and a wait that may take days.

    tailplane dev examples/approval/workflow.py

Stop the worker while the task waits, or in the middle of a step, and start it again: what was done is not done again,
and readers see each thing once. A task that waits for longer than `TAILPLANE_PARK_AFTER` takes no place in a worker.
"""

import asyncio

from messages import Approval, Question

from tailplane.workers import Context, step, workflow

DAY = 24 * 3600


@step(retries=3, retry_delay=0.5)
async def look_up(order: str) -> Question:
    """Ask the shop what the order cost."""
    await asyncio.sleep(0.1)
    return Question(order=order, cents=100 * len(order))


@step
async def pay_back(order: str, cents: int, key: str) -> str:
    """Pay, with a key by which the bank tells a repetition: a worker may die before it has noted that it has paid."""
    await asyncio.sleep(0.1)
    return f"{cents / 100:.2f} paid back for {order} ({key[-6:]})"


@workflow
async def refund(ctx: Context, order: str) -> str:
    """Pay an order back, if somebody says so within a week."""
    ctx.write_event_to_stream(f"looking for {order}")
    question = await look_up(order)
    ctx.write_event_to_stream(question)
    try:
        answer = await ctx.wait_for_event(Approval, timeout=7 * DAY)
    except TimeoutError:
        return "nobody has answered"
    if not answer.approved:
        return f"refused by {answer.by}"
    ctx.write_event_to_stream(f"approved by {answer.by}")
    return await pay_back(order, question.cents, ctx.task_id)
