"""The bells of children's streams, for several attempts of one worker at once."""

import asyncio

from tailplane.broker import TaskRef
from tailplane.protocol.ids import new_task_id
from tailplane.workers.stream_bells import StreamBells

from .conftest import PATIENCE, Bench


async def test_who_goes_leaves_the_bell_to_others_that_listen_to_it(bench: Bench) -> None:
    # An attempt that was lost unwinds while the task's next one shows the same child.
    bells, child, redis = StreamBells(bench.broker), TaskRef(new_task_id()), bench.broker.redis
    async with bells.listening(child) as rung:
        async with bells.listening(child) as other:
            await redis.publish(bench.broker.keys.bell(child), b"")
            await asyncio.wait_for(asyncio.gather(rung.wait(), other.wait()), PATIENCE)
            rung.clear()
        await redis.publish(bench.broker.keys.bell(child), b"")
        await asyncio.wait_for(rung.wait(), PATIENCE)
    await bells.aclose()
