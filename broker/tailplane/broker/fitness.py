"""Whether a server may hold live streams: its eviction policy, and what of it outlives a restart.

Both programs look before they do anything else, and refuse a server that may drop what readers wait for; `doctor` tells
the same. The judgements are pure.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tailplane.broker.connection import store_errors
from tailplane.broker.outage import Outage
from tailplane.broker.rights import lacking
from tailplane.broker.shards import Shards
from tailplane.broker.store import Command
from tailplane.protocol.errors import StoreForbidden, StoreUnavailable, TailplaneError

log = structlog.get_logger("tailplane.broker")

# Seconds between two tries to reach the server for the first look, and between later looks.
PAUSE = 0.25
LOOK_EVERY = 60.0


class UnfitStore(TailplaneError):
    """The server may drop live streams; the hint says which setting would be right, and how to set it."""

    code = "unfit_store"
    title = "The store may drop live streams"


class RightsMissing(UnfitStore):
    """The server refuses to the program's user what it needs."""

    title = "The store's user lacks rights"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a server, and what to do about it. `is_fatal`: nothing should run on it."""

    detail: str
    remedy: str
    is_fatal: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself.

    Attributes:
        info: of `INFO`; empty where the user may not ask.
        save: the conditions under which it writes snapshots, empty for never; None: it does not tell.
    """

    info: Mapping[str, Any]
    save: str | None


async def read_facts(redis: Redis) -> Facts:
    """Ask a server about itself. Managed services often refuse CONFIG, and restricted users INFO as well.

    Raises:
        StoreUnavailable: it does not answer.
    """
    info = await _told(redis.info("everything"))
    if info and info.get("aof_enabled"):
        # What snapshots there are does not matter then; and CONFIG is a right that a program should not have.
        return Facts(info, None)
    config = await _told(redis.config_get("save"))
    return Facts(info or {}, config.get("save") if config else None)


async def _told(question: Awaitable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    try:
        with store_errors():
            return await question
    except (ResponseError, StoreForbidden):
        return None


def judge_eviction(info: Mapping[str, Any]) -> Fault | None:
    """Judge what the server does when its memory is full."""
    policy = info.get("maxmemory_policy")
    if policy is None:
        return Fault("the server does not tell its maxmemory-policy", "make sure that it is noeviction")
    if policy == "noeviction":
        return None
    # Also without a limit, which may be set at any time; and the volatile ones, too: what is queued has a TTL.
    return Fault(
        f"maxmemory-policy is {policy}: a full server would drop streams that are being read",
        "set it in the server's configuration: maxmemory-policy noeviction "
        "(now: CONFIG SET maxmemory-policy noeviction; managed servers: in the parameter group)",
        is_fatal=True,
    )


def judge_persistence(facts: Facts) -> Fault | None:
    """Judge what a restart of the server would cost. Where it does not tell, nothing is wrong."""
    if not facts.info or facts.info.get("aof_enabled"):
        return None
    remedy = "appendonly yes, appendfsync everysec; at a managed service, turn on persistence or replicas"
    match facts.save:
        case "":
            return Fault("nothing is written to disk: a restart of the server loses all tasks and streams", remedy)
        case None:
            return Fault("no append-only file: a restart of the server may lose tasks and streams", remedy)
        case _:
            return Fault("snapshots only: a crash of the server loses what came after the last one", remedy)


async def wait_until_fit(redis: Redis, needs: Sequence[Command] = (), shards: Shards | None = None) -> None:
    """Return when the servers were reached, however long that takes, and may hold live streams. Log what else is wrong.

    Of a cluster all nodes are looked at, the replicas too, for each may become a primary; those that do not answer are
    left to `mind_fitness`.

    Args:
        needs: what the program's user must be allowed, see `rights`.

    Raises:
        UnfitStore: one of them may drop streams.
        RightsMissing: the first one refuses some of `needs`.
    """
    what = "the look at the store's settings"
    outage = Outage(what, hint="TAILPLANE_REDIS_URL says where Redis is")
    facts = await _patiently(lambda: read_facts(redis), outage)
    if refused := await _patiently(lambda: lacking(redis, needs), outage):
        hint = "deploy/redis/users.acl has what each program needs; ACL LOG on the server tells what it refused"
        raise RightsMissing(f"Redis refuses to the program's user: {'; '.join(refused)}", hint=hint)
    _insist("Redis", facts)
    if shards is not None:
        outage = Outage(what, hint="TAILPLANE_STREAMS_URL says where the cluster of the streams is")
        nodes = await _patiently(shards.topology.servers, outage)
        for address, said in zip(nodes, await asyncio.gather(*map(_try_to_read, nodes.values())), strict=True):
            if said:
                _insist(f"Redis at {address}", said)


T = TypeVar("T")


async def _patiently(ask: Callable[[], Awaitable[T]], outage: Outage) -> T:
    while True:
        try:
            answer = await ask()
        except StoreUnavailable as error:
            outage.noticed(error)
            await asyncio.sleep(PAUSE)
        else:
            outage.over()
            return answer


async def _try_to_read(redis: Redis) -> Facts | None:
    try:
        return await read_facts(redis)
    except StoreUnavailable:
        return None


def _insist(server: str, facts: Facts) -> None:
    for fault in (judge_eviction(facts.info), judge_persistence(facts)):
        if fault and fault.is_fatal:
            raise UnfitStore(f"{server} is not fit for live streams: {fault.detail}", hint=fault.remedy)
        if fault:
            log.warning("Redis is not set up well", server=server, found=fault.detail, remedy=fault.remedy)


async def mind_fitness(redis: Redis, shards: Shards | None = None) -> None:
    """Look again once in a while, until cancelled: a failover, or somebody, may bring another policy.

    It is only logged then: to end in the middle of streams would cost what is to be saved.
    """
    known: dict[str, Fault | None] = {}
    while True:
        await asyncio.sleep(LOOK_EVERY)
        servers = {"Redis": redis}
        if shards is not None:
            with contextlib.suppress(StoreUnavailable):
                servers |= {f"Redis at {address}": node for address, node in (await shards.topology.servers()).items()}
        for server, client in servers.items():
            if (facts := await _try_to_read(client)) is None:
                continue
            fault = judge_eviction(facts.info)
            if fault and fault.is_fatal and fault != known.get(server):
                log.error("no longer fit for live streams", server=server, found=fault.detail, remedy=fault.remedy)
            known[server] = fault
