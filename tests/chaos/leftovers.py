"""What a run leaves behind in Redis: what must go has gone, or has a TTL."""

import re
from collections.abc import Collection, Mapping, Sequence

from redis.asyncio import Redis

from tailplane.protocol.states import State
from tests.chaos.checks import Violation
from tests.chaos.history import Leftover
from tests.chaos.orders import TENANTS

# What is meant to stay for as long as the deployment does, and why that does not grow without bounds.
LASTING = {
    r"[^:]+:\{queue\}:workers": "the leases: a member leaves when its worker is struck off",
    r"[^:]+:\{queue\}:workflows": "what can be run: a field for each workflow",
    r"[^:]+:\{queue\}:tasks:[^:]+": "the index of tasks: members leave when their records have gone",
    r"[^:]+:\{queue\}:dead:[^:]+": "the list of failed tasks: members leave when requeued, dropped or found gone",
    r"[^:]+:\{queue\}:gone:[^:]+": "tasks whose retention has passed: trimmed by age",
    r"[^:]+:\{queue\}:turns": "tenants' queues that have tasks: members leave when found empty; and a version",
    r"[^:]+:\{queue\}:tenants": "who there is: a field for each tenant",
    r"[^:]+:\{queue\}:api-keys": "who may come in: a member for each key",
    r"[^:]+:\{queue\}:api-key:[^:]+": "the same: a revoked one must be known",
}
_TASK_KEY = re.compile(r"[^:]+:[^:]+:(?:task|stream):\{(.+)\}")
_HOUR_MS = 3600 * 1000
# By the defaults: start deadline and retention; what is left of them after an end; and after a failure.
_UNSTARTED_MS = 48 * _HOUR_MS
_RETENTION_MS = 24 * _HOUR_MS
_DEAD_LETTER_RETENTION_MS = 7 * 24 * _HOUR_MS


async def read(redis: "Redis") -> list[Leftover]:
    """Return all keys of the server."""
    found = []
    async for raw in redis.scan_iter(count=1000):
        kind = (await redis.type(raw)).decode()
        members = await redis.zrange(raw, 0, -1) if kind == "zset" else ()
        names = tuple(member.decode() for member in members)
        found.append(Leftover(raw.decode(), kind, await redis.pttl(raw), names))
    return found


def violations(
    leftovers: Sequence[Leftover],
    ends: Mapping[str, State | None],
    workers: int,
    owners: Mapping[str, str] | None = None,
) -> list[Violation]:
    """Return what should not be there, or is not as it should be.

    Args:
        leftovers: all keys.
        ends: how each task of the run ended; None where that is not known.
        workers: how many live.
        owners: the tenant of each task; None: all are of `default`.
    """
    found = [broken for one in leftovers for broken in _of_key(one, ends)]
    members = {one.key.rpartition("{queue}:")[2]: one.members for one in leftovers}
    if len(members.get("workers", ())) != workers:
        found.append(Violation("", "leases are of the living", f"{workers} members", str(members.get("workers"))))
    for tenant in {TENANTS[0], *(owners or {}).values()}:
        own = {task_id for task_id in ends if (owners or {}).get(task_id, TENANTS[0]) == tenant}
        failed = {task_id for task_id in own if ends[task_id] is State.FAILED}
        found += _compare("each submit makes one task", set(members.get(f"tasks:{tenant}", ())), own)
        found += _compare("dead letters are what failed", set(members.get(f"dead:{tenant}", ())), failed)
    return found


def unqueued(leftovers: Sequence[Leftover], task_ids: Collection[str]) -> int:
    """Return how many records there are of submits that came no further: repeated under a new id, they expire."""
    return sum(one.kind == "hash" and _task_of(one.key) not in (None, *task_ids) for one in leftovers)


def _compare(rule: str, listed: set[str], expected: set[str]) -> list[Violation]:
    if listed == expected:
        return []
    more, less = sorted(listed - expected), sorted(expected - listed)
    return [Violation("", rule, f"{len(expected)} tasks", f"also {more}, but not {less}")]


def _of_key(one: Leftover, ends: Mapping[str, State | None]) -> list[Violation]:
    task_id = _task_of(one.key)
    if one.ttl_ms == -1:
        if any(re.fullmatch(pattern, one.key) for pattern in LASTING):
            return []
        rule = "no task is left in the queue" if re.search(r":(due|running):", one.key) else "no key lacks a TTL"
        return [Violation(task_id or "", rule, "nothing", f"{one.kind} {one.key} {list(one.members)}".strip())]
    if task_id is not None:
        ended = _DEAD_LETTER_RETENTION_MS if ends.get(task_id) is State.FAILED else _RETENTION_MS
        most = ended if task_id in ends else _UNSTARTED_MS
        if one.ttl_ms > most:
            return [Violation(task_id, "an ended task has its retention", f"up to {most} ms", f"{one.ttl_ms} ms")]
    return []


def _task_of(key: str) -> str | None:
    match = _TASK_KEY.fullmatch(key)
    return match and match[1]
