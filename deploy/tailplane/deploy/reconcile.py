"""Looks for tasks that the queue has lost, from outside: with the settings of a server, and no server of its own."""

from tailplane.broker import Broker, TaskRecord
from tailplane.broker.settings import DeploymentSettings
from tailplane.broker.strays import Survey, survey
from tailplane.deploy.operator import opened_broker
from tailplane.protocol.errors import StoreUnavailable

# How often it looks anew where slots move meanwhile.
_LOOKS = 5


async def reconcile(settings: DeploymentSettings, *, mend: bool) -> Survey:
    """Look at all records of a deployment; with `mend`, queue again what the queue has lost.

    Raises:
        StoreUnavailable: Redis does not answer, or gives this user no right to look through its keys.
    """
    async with opened_broker(settings) as broker:
        return await _whole(broker, mend)


async def _whole(broker: Broker, mend: bool) -> Survey:
    """Survey while no slot moves: one that moved to a server that was looked at before would not be seen."""
    shards = broker.shards
    if shards is None:
        return await survey(broker, await broker.record_servers(), mend=mend)
    strays: dict[str, TaskRecord] = {}
    for _ in range(_LOOKS):
        await shards.topology.refresh()
        before = shards.topology.map
        found = await survey(broker, await broker.record_servers(), mend=mend)
        strays |= {stray.task_id: stray for stray in found.strays}
        await shards.topology.refresh()
        if before is not None and shards.topology.map is not None and shards.topology.map.owners == before.owners:
            return Survey(found.records, list(strays.values()))
    raise StoreUnavailable("slots of the cluster move all the time: try again when they do not")
