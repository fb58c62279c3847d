"""Ask for a refund, and decide on it when the workflow asks: with a word on the command line, else at the terminal.

While the workflow is served, run:

    python examples/approval/client.py order-17
"""

import asyncio
import sys

from messages import Approval, Question

from tailplane.client import Client


async def main(order: str, word: str | None) -> None:
    async with Client(event_models=[Question]) as client:
        task = await client.run_workflow("refund", order)
        # Or from anywhere else: `tailplane send TASK_ID '{"approved": true, "by": "you"}' --type Approval`.
        async for event in task.results():
            if isinstance(event, Question):
                answer = word or await asyncio.to_thread(input, f"pay {event.cents / 100:.2f} back? [yes/no] ")
                await task.send_event(Approval(approved=answer == "yes", by="the client"))
            else:
                print(event, flush=True)
        print(await task.result())
        for step in await task.steps():
            print(f"  {step.kind} {step.name}: attempt {step.attempt}")


order, word = [*sys.argv[1:], None, None][:2]
asyncio.run(main(order or "order-17", word))
