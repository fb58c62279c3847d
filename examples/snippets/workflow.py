"""A workflow is a plain function: it says something whenever it has something to say.

Serve it with:

    tailplane dev examples/snippets/workflow.py
"""

import time

processing_steps = ["read", "clean", "count", "rank", "sum up"]


def process_step(step):
    time.sleep(0.3)
    return f"{step}: done"


def final_processing():
    time.sleep(0.3)
    return "final result"


# fmt: off
async def my_workflow(ctx, input_data):
    ctx.write_event_to_stream("processing started ...")
    for step in processing_steps:
        partial_result = process_step(step)          # may be slow, may never await: see 3.2
        ctx.write_event_to_stream(partial_result)
    final_result = final_processing()
    ctx.write_event_to_stream(final_result)
# fmt: on
