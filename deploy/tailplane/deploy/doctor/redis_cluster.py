"""Looks at the Redis Cluster that has the streams, if there is one. The judgements are pure.

Imports redis-py, which a client-only install does not have.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from tailplane.broker import connect_cluster, fitness, store_errors
from tailplane.broker.slots import SLOTS
from tailplane.deploy.doctor.finding import Finding, Verdict
from tailplane.deploy.doctor.redis_server import judge_eviction, judge_persistence, judge_server
from tailplane.deploy.masking import mask
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.urls import mask_url

_FULL_COVERAGE = "cluster-require-full-coverage"


@dataclass(frozen=True, slots=True)
class Node:
    """What a node of the cluster says of itself.

    Attributes:
        replicas: how many follow it; None: it is a replica itself.
        facts: None: it does not answer.
        stops_with_others: whether it serves nothing while any slot has no server; None: it does not tell.
    """

    address: str
    replicas: int | None
    facts: fitness.Facts | None
    stops_with_others: bool | None = None


def check_cluster(url: str) -> Iterator[Finding]:
    """Look at the cluster at `url`: does it have all slots, can it lose a server, and may it hold streams."""
    try:
        covered, nodes = asyncio.run(_ask(url))
    except (RedisError, StoreUnavailable, OSError, ValueError) as error:
        remedy = "is TAILPLANE_STREAMS_URL right, are its nodes up, and the password the present one?"
        yield Finding("streams", Verdict.FAILURE, f"{mask_url(url)}: {mask(str(error))}", remedy)
        return
    yield judge_slots(mask_url(url), covered, nodes)
    yield judge_replicas(nodes)
    if any(node.stops_with_others for node in nodes):
        detail = "where one shard is away all others stop, too"
        yield Finding("streams coverage", Verdict.WARNING, detail, f"set on each node: {_FULL_COVERAGE} no")
    for node in nodes:
        yield from judge_node(node)


async def _ask(url: str) -> tuple[int, list[Node]]:
    """Return how many slots are served, and the nodes, primaries first."""
    shards = connect_cluster(url)
    try:
        await shards.topology.refresh()
        assert shards.topology.map is not None
        replicas = {address: len(following) for address, following in shards.topology.map.replicas.items()}
        clients = await shards.topology.servers()
        said = await asyncio.gather(*(_ask_node(client) for client in clients.values()))
        nodes = [Node(str(address), replicas.get(address), *each) for address, each in zip(clients, said, strict=True)]
        return shards.topology.map.covered, nodes
    finally:
        await shards.aclose()


async def _ask_node(client: Redis) -> tuple[fitness.Facts | None, bool | None]:
    try:
        facts = await fitness.read_facts(client)
        with store_errors():
            said = await client.config_get(_FULL_COVERAGE)
    except StoreUnavailable:
        return None, None
    except ResponseError:
        return facts, None
    return facts, said.get(_FULL_COVERAGE) == "yes"


def judge_slots(url: str, covered: int, nodes: Sequence[Node]) -> Finding:
    """Judge whether every task finds a server."""
    primaries = [node for node in nodes if node.replicas is not None]
    silent = [node.address for node in primaries if node.facts is None]
    name = f"{url} has {len(primaries)} shards"
    if silent:
        remedy = "start it, or let its replica take over: until then the tasks that it has can't go on"
        return Finding("streams", Verdict.FAILURE, f"{name}; no answer from {', '.join(silent)}", remedy)
    if covered < SLOTS:
        remedy = "tasks of those slots can't be run: see `CLUSTER SLOTS`, and give each slot to a primary"
        return Finding("streams", Verdict.FAILURE, f"{name}; {SLOTS - covered} slots have no server", remedy)
    return Finding("streams", Verdict.OK, f"{name}, and a server for every slot")


def judge_replicas(nodes: Sequence[Node]) -> Finding:
    """Judge whether the cluster can lose a server."""
    alone = [node.address for node in nodes if node.replicas == 0]
    silent = [node.address for node in nodes if node.replicas is None and node.facts is None]
    if alone:
        remedy = "give each primary a replica: what dies without one takes its tasks with it"
        return Finding("streams replicas", Verdict.WARNING, f"nobody follows {', '.join(alone)}", remedy)
    if silent:
        return Finding("streams replicas", Verdict.WARNING, f"no answer from {', '.join(silent)}", "start it again")
    return Finding("streams replicas", Verdict.OK, "each shard has one")


def judge_node(node: Node) -> Iterator[Finding]:
    """Judge what only one node has: its version, its eviction policy, its persistence; nothing where all is well."""
    if node.facts is None or not node.facts.info:
        return
    # Of a cluster, replicas are a part.
    info = {name: value for name, value in node.facts.info.items() if name != "role"}
    for finding in (judge_server(node.address, info), judge_eviction(info), judge_persistence(node.facts)):
        if finding.verdict is not Verdict.OK:
            yield Finding(
                f"{finding.check} (streams)", finding.verdict, f"{node.address}: {finding.detail}", finding.remedy
            )
