"""What a run leaves behind in Redis: what must go has gone, or has a TTL."""

import re
from collections.abc import Collection, Sequence

from redis.asyncio import Redis

from tests.chaos.checks import Violation
from tests.chaos.history import Leftover

# What is meant to stay for as long as the deployment does, and why that does not grow without bounds.
LASTING = {
    r"[^:]+:\{queue\}:workers": "the leases: a member leaves when its worker is struck off",
    r"[^:]+:\{queue\}:workflows": "what can be run: a field for each workflow",
    r"[^:]+:\{queue\}:tasks:[^:]+": "the index of tasks: members leave when their records have gone",
    r"[^:]+:\{queue\}:gone:[^:]+": "tasks whose retention has passed: trimmed by age",
}
_TASK_KEY = re.compile(r"[^:]+:[^:]+:(?:task|stream):\{(.+)\}")
# A task's start deadline and retention, as the defaults have them; and what is left after the end.
_LONGEST_TTL_MS = 48 * 3600 * 1000
_RETENTION_MS = 24 * 3600 * 1000


async def read(redis: "Redis") -> list[Leftover]:
    """Return all keys of the server."""
    found = []
    async for raw in redis.scan_iter(count=1000):
        kind = (await redis.type(raw)).decode()
        members = await redis.zrange(raw, 0, -1) if kind == "zset" else ()
        names = tuple(member.decode() for member in members)
        found.append(Leftover(raw.decode(), kind, await redis.pttl(raw), names))
    return found


def violations(leftovers: Sequence[Leftover], task_ids: Collection[str], workers: int) -> list[Violation]:
    """Return what should not be there, or is not as it should be.

    Args:
        leftovers: all keys.
        task_ids: of all tasks of the run; all have ended.
        workers: how many live.
    """
    found = [broken for one in leftovers for broken in _of_key(one, task_ids)]
    members = {one.key.rpartition("{queue}:")[2]: one.members for one in leftovers}
    if len(members.get("workers", ())) != workers:
        found.append(Violation("", "leases are of the living", f"{workers} members", str(members.get("workers"))))
    indexed = {name for key, names in members.items() if key.startswith("tasks:") for name in names}
    if indexed != set(task_ids):
        more, less = sorted(indexed - set(task_ids)), sorted(set(task_ids) - indexed)
        found.append(Violation("", "each submit makes one task", "those of the run", f"also {more}, but not {less}"))
    return found


def unqueued(leftovers: Sequence[Leftover], task_ids: Collection[str]) -> int:
    """Return how many records there are of submits that came no further: repeated under a new id, they expire."""
    return sum(one.kind == "hash" and _task_of(one.key) not in (None, *task_ids) for one in leftovers)


def _of_key(one: Leftover, task_ids: Collection[str]) -> list[Violation]:
    task_id = _task_of(one.key)
    if one.ttl_ms == -1:
        if any(re.fullmatch(pattern, one.key) for pattern in LASTING):
            return []
        rule = "no task is left in the queue" if re.search(r":(due|running):", one.key) else "no key lacks a TTL"
        return [Violation(task_id or "", rule, "nothing", f"{one.kind} {one.key} {list(one.members)}".strip())]
    if task_id is not None:
        most = _RETENTION_MS if task_id in task_ids else _LONGEST_TTL_MS
        if one.ttl_ms > most:
            return [Violation(task_id, "an ended task has its retention", f"up to {most} ms", f"{one.ttl_ms} ms")]
    return []


def _task_of(key: str) -> str | None:
    match = _TASK_KEY.fullmatch(key)
    return match and match[1]
