"""Tells how much the tasks of each tenant have written, for the bound on what a tenant keeps in Redis.

Once a second, in one round trip with a script for each tenant that has written meanwhile; nothing is done per event.
What a killed worker has not told is lost from the count, and what was told when only the reply was lost counts twice.
"""

import asyncio

from tailplane.broker import Outage
from tailplane.broker.usage import Usage
from tailplane.protocol.errors import StoreUnavailable
from tailplane.workers.counts import Written

# Seconds.
EVERY = 1.0


async def tell_stored(usage: Usage, written: Written, outage: Outage) -> None:
    """Tell until cancelled; Redis may come and go, as `outage` notes."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            await tell_once(usage, written)
        except StoreUnavailable as error:
            outage.noticed(error)
        else:
            outage.over()


async def tell_once(usage: Usage, written: Written) -> None:
    """Tell what was written since the last time.

    Raises:
        StoreUnavailable: Redis does not answer; it is told the next time.
    """
    told = written.take_untold()
    try:
        await usage.note_stored(told)
    except StoreUnavailable:
        for tenant, count in told.items():
            written.note_stored(tenant, count)
        raise
