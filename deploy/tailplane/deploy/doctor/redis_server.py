"""Looks at the Redis or Valkey server: may it hold live streams, and does it keep them. The judgements are pure.

Imports redis-py, which a client-only install does not have.
"""

import asyncio
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tailplane.broker import Keys, connect, fitness, rights
from tailplane.broker.connection import check_url
from tailplane.deploy.doctor.finding import Finding, Verdict
from tailplane.deploy.masking import mask
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.urls import mask_url

# The oldest server that takes SET with both NX and GET, by which a session is made once and a dead letter dropped once.
OLDEST_REDIS = (7, 0)
# A skew shows as wrong delays; leases and retries go by the server's clock alone.
SKEW_WARNING = 0.25
SLOW_ANSWER = 0.02


def check_redis(url: str, *, is_expected: bool, is_needed: bool = True) -> Iterator[Finding]:
    """Look at the Redis or Valkey server: may it hold streams, and does it keep them.

    Args:
        url: where it is.
        is_expected: somebody named it, so that its absence is a failure.
        is_needed: no control plane answers; one that does has a server of its own, wherever that is.
    """
    try:
        facts, skew, took, refused = asyncio.run(_ask(url))
    except (RedisError, StoreUnavailable, OSError, ValueError) as error:
        if is_expected:
            remedy = "is TAILPLANE_REDIS_URL right, the server up, and the password the present one?"
            yield Finding("redis", Verdict.FAILURE, f"{mask_url(url)}: {mask(str(error))}", remedy)
        elif not is_needed:
            detail = f"not looked at: none at {url}; TAILPLANE_REDIS_URL says where the control plane's is"
            yield Finding("redis", Verdict.SKIPPED, detail)
        else:
            remedy = "only servers need it: TAILPLANE_REDIS_URL says where it is; `tailplane dev` brings its own"
            yield Finding("redis", Verdict.WARNING, f"{mask_url(url)}: {mask(str(error))}", remedy)
        return
    if facts.info:
        yield judge_server(mask_url(url), facts.info)
        yield judge_persistence(facts)
    else:
        remedy = "let its user run INFO, or look at its settings yourself"
        yield Finding("redis", Verdict.WARNING, f"{mask_url(url)} answers, but tells nothing of itself", remedy)
    yield judge_rights(refused)
    yield judge_eviction(facts.info)
    yield judge_clock(skew)
    yield judge_speed(took)


async def _ask(url: str) -> tuple[fitness.Facts, float, float, Mapping[str, Sequence[str]]]:
    """Return what the server says of itself, its clock's skew, the shortest time that an answer took, and what of each
    program's work it refuses to this user.
    """
    # As the programs connect, through sentinels where the URL names them; the first command does: it is not timed.
    client = connect(check_url(url), Redis)
    try:
        await client.ping()
        skew, took = await _clock_skew(client)
        return await fitness.read_facts(client), skew, took, await _refused(client)
    finally:
        await client.aclose(close_connection_pool=True)


async def _refused(client: Redis) -> Mapping[str, Sequence[str]]:
    keys = Keys(os.environ.get("TAILPLANE_PREFIX", "tailplane"))
    refused = {"control planes": await rights.lacking(client, rights.of_control_plane(keys))}
    if refused["control planes"]:
        # What a worker may not is written down by the server; so it is asked for no more than is needed.
        refused["workers"] = await rights.lacking(client, rights.of_worker(keys))
    return refused


async def _clock_skew(client: Redis) -> tuple[float, float]:
    """Return by how many seconds the server's clock is ahead of ours, and the shortest time that an answer took."""
    best = (0.0, float("inf"))
    for _ in range(5):
        began = time.time()
        seconds, micros = await client.time()
        ended = time.time()
        if ended - began < best[1]:
            best = (seconds + micros / 1e6 - (began + ended) / 2, ended - began)
    return best


def judge_server(url: str, info: Mapping[str, Any]) -> Finding:
    """Judge kind, version and role."""
    is_valkey = info.get("server_name") == "valkey"
    # Valkey calls itself Redis 7.2.4 for the sake of old clients.
    version = str(info.get("valkey_version" if is_valkey else "redis_version", "0"))
    name = f"{url} is {'Valkey' if is_valkey else 'Redis'} {version}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not is_valkey and numbers < OLDEST_REDIS:
        return Finding("redis", Verdict.FAILURE, name, "Tailplane needs Redis 7.0 or newer, or any Valkey")
    if info.get("role") in ("slave", "replica"):
        return Finding("redis", Verdict.FAILURE, f"{name}, a replica", "TAILPLANE_REDIS_URL must name the primary")
    return Finding("redis", Verdict.OK, name)


def judge_rights(refused: Mapping[str, Sequence[str]]) -> Finding:
    """Judge what the server refuses to the user of the URL, by program: one of them should get all that it needs."""
    for program, commands in refused.items():
        if not commands:
            return Finding("redis rights", Verdict.OK, f"the user may do what {program} need")
    program, commands = min(refused.items(), key=lambda item: len(item[1]))
    detail = f"the user may not do what {program} need: {'; '.join(commands)}"
    return Finding("redis rights", Verdict.FAILURE, detail, "give it the rights of deploy/redis/users.acl")


def judge_eviction(info: Mapping[str, Any]) -> Finding:
    """Judge what the server does when its memory is full."""
    if fault := fitness.judge_eviction(info):
        return _finding("redis eviction", fault)
    limit = info.get("maxmemory_human") if info.get("maxmemory") else "no limit"
    return Finding("redis eviction", Verdict.OK, f"maxmemory-policy is noeviction, maxmemory {limit}")


def judge_persistence(facts: fitness.Facts) -> Finding:
    """Judge what a restart of the server would cost."""
    if facts.info.get("aof_enabled") and facts.info.get("aof_last_write_status", "ok") != "ok":
        remedy = "is its disk full? Its log says more"
        return Finding("redis persistence", Verdict.FAILURE, "the append-only file can't be written", remedy)
    if fault := fitness.judge_persistence(facts):
        return _finding("redis persistence", fault)
    return Finding("redis persistence", Verdict.OK, "append-only file")


def _finding(check: str, fault: fitness.Fault) -> Finding:
    return Finding(check, Verdict.FAILURE if fault.is_fatal else Verdict.WARNING, fault.detail, fault.remedy)


def judge_clock(skew: float) -> Finding:
    """Judge the difference of the clocks, in seconds."""
    detail = f"{abs(skew) * 1000:.0f} ms {'ahead of' if skew >= 0 else 'behind'} this machine's"
    if abs(skew) > SKEW_WARNING:
        remedy = "let both follow NTP; nothing is lost by it, but delays and times are shown wrong"
        return Finding("clock", Verdict.WARNING, f"the server's clock is {detail}", remedy)
    return Finding("clock", Verdict.OK, f"the server's clock is {detail}")


def judge_speed(took: float) -> Finding:
    """Judge the time that the server takes to answer, in seconds."""
    detail = f"the server answers in {took * 1000:.1f} ms"
    if took > SLOW_ANSWER:
        remedy = "every event passes it twice: run workers and control planes near it"
        return Finding("redis latency", Verdict.WARNING, detail, remedy)
    return Finding("redis latency", Verdict.OK, detail)
