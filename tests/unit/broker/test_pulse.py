"""A loop that stands still is late, seen from another thread; one that turns is not."""

import asyncio
import threading
import time

from tailplane.broker.pulse import Pulse

DEADLINE = 20


async def test_a_loop_that_stands_still_is_late_until_it_turns_again() -> None:
    pulse = Pulse()
    assert pulse.late == 0.0
    pulse.start()
    was_late = threading.Event()

    def look() -> None:
        while pulse.late < 0.2:
            time.sleep(0.01)
        was_late.set()

    threading.Thread(target=look, daemon=True).start()
    # On purpose: what it is there for.
    assert was_late.wait(DEADLINE)
    async with asyncio.timeout(DEADLINE):
        while pulse.late > 0.1:
            await asyncio.sleep(0.01)
    pulse.stop()
    assert pulse.late == 0.0
