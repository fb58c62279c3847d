"""Ask, and print the answer's tokens as they arrive.

While the workflow is served, run:

    python examples/chat_tokens/client.py "Why is the sky blue?"
"""

import asyncio
import sys

from events import Token

from tailplane.client import Client, TaskFailed


async def main(prompt: str) -> None:
    async with Client(event_models=[Token]) as client:
        task = await client.run_workflow("chat", {"prompt": prompt})
        async for event in task.events(include_platform=False):
            if event.channel == "tokens":
                print(event.data.text, end="", flush=True)
        answer = await task.result()
    print(f"\n({answer['finish_reason']})")


try:
    asyncio.run(main(" ".join(sys.argv[1:]) or "Why is the sky blue?"))
except TaskFailed as error:
    sys.exit(f"{error.error_type}: {error.message}")
