"""Start the workflow and print what it says, while it says it.

While the workflow is served, run:

    python examples/snippets/client.py
"""

import asyncio

from tailplane.client import Client


async def main():
    async with Client() as client:  # finds the control plane by TAILPLANE_URL, else on this machine
        input_data = {"text": "some text"}
        async with client.start_session() as session:
            task = await session.run_workflow("my_workflow", input_data)
            async for event in session.get_task_result_stream(task.task_id):
                print("live update:", event)


asyncio.run(main())
