"""What the programs' users need to be allowed in Redis, as commands that can be tried without being carried out.

`deploy/redis/users.acl` gives just these rights, and a few that only a cluster or the doctor asks for. Both programs
try them at their start (`wait_until_fit`), and `doctor` does: a right that is missing shows there, by name, and not in
the middle of a task.
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.store import Command
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.errors import StoreForbidden
from tailplane.protocol.ids import DEFAULT_TENANT, KeyId, SessionId, TaskId, WorkerId

_TASK = TaskRef(TaskId("t_probe"))
_WORKER = WorkerId("probe")
_SESSION = SessionId("probe")
_WORKFLOW = "probe"
_SCRIPT = "0" * 40


def of_control_plane(keys: Keys) -> list[Command]:
    """Return what a control plane does: each of its commands, and each kind of key and channel, at least once."""
    record, stream, due = keys.task(_TASK), keys.stream(_TASK), keys.due(_WORKFLOW)
    session, tasks = keys.session(DEFAULT_TENANT, _SESSION), keys.tasks(DEFAULT_TENANT)
    of_session, joins = keys.session_tasks(DEFAULT_TENANT, _SESSION), keys.session_joins(DEFAULT_TENANT, _SESSION)
    state, joined = keys.session_state(DEFAULT_TENANT, _SESSION), keys.joined(DEFAULT_TENANT, _SESSION)
    request, gone, dead = keys.request(DEFAULT_TENANT, "probe"), keys.gone(DEFAULT_TENANT), keys.dead(DEFAULT_TENANT)
    schedule, schedules = keys.schedule(DEFAULT_TENANT, "probe"), keys.schedules(DEFAULT_TENANT)
    return [
        ("EVALSHA", _SCRIPT, 2, record, stream),
        (
            "EVAL", "return 1", 16, *keys.of_terms, *keys.queue_of(_WORKFLOW),
            tasks, request, session, of_session, dead, joins, state,
        ),
        (
            "EVAL", "return 1", 11, *keys.of_terms, schedule, schedules, keys.schedules_due(DEFAULT_TENANT),
            due, keys.doorbell(_WORKFLOW), tasks,
        ),
        ("TIME",),
        ("EXISTS", stream), ("DEL", record, stream, keys.worker(_WORKER), keys.running(_WORKER)),
        ("EXPIRE", keys.doorbell(_WORKFLOW), 60), ("PEXPIRE", stream, 1), ("PTTL", session),
        ("GET", request), ("SET", request, "", "PX", 1, "NX", "GET"),
        ("LPUSH", keys.doorbell(_WORKFLOW), "1"), ("LTRIM", keys.doorbell(_WORKFLOW), 0, 0),
        ("HGET", record, "state"), ("HMGET", record, "state"), ("HGETALL", keys.workflows),
        ("HVALS", keys.running(_WORKER)), ("HLEN", keys.running(_WORKER)), ("HSET", record, "state", ""),
        ("HSCAN", keys.limits, 0), ("HSETNX", session, "closed", "0"), ("HDEL", keys.running(_WORKER), _TASK.member),
        ("HINCRBY", schedule, "fired", 1), ("ZADD", keys.api_keys, 0, ""), ("HGETALL", keys.api_key(KeyId("probe"))),
        ("EVAL", "return 1", 3, keys.rate("probe"), keys.readers("probe"), keys.stored(DEFAULT_TENANT)),
        ("HKEYS", keys.tenants), ("HSETNX", keys.tenants, "probe", ""), ("ZADD", keys.turns, 0, "probe"),
        ("XADD", keys.revoked_tokens, "*", "t", ""), ("PEXPIRE", keys.revoked_tokens, 1),
        ("ZADD", tasks, 0, _TASK.task_id), ("ZREM", of_session, _TASK.task_id),
        ("ZREMRANGEBYSCORE", gone, 0, 0), ("ZCARD", due), ("ZCOUNT", due, 0, 0),
        ("ZLEXCOUNT", keys.blocked, "-", "+"), ("ZSCORE", gone, _TASK.task_id),
        ("ZRANGE", keys.workers, 0, 0), ("ZRANGEBYSCORE", due, 0, 0),
        ("ZRANGEBYLEX", dead, "-", "+"), ("ZREVRANGEBYLEX", dead, "+", "-"),
        ("XADD", stream, "NOMKSTREAM", "0-1", "e", ""), ("XLEN", stream),
        ("XRANGE", stream, "-", "+"), ("XREVRANGE", stream, "+", "-"),
        ("PUBLISH", keys.control(_WORKER), ""), ("PUBLISH", keys.bell(_TASK), ""),
        ("SUBSCRIBE", keys.bell(_TASK), keys.ends("probe"), joined), ("UNSUBSCRIBE", keys.bell(_TASK)),
    ]  # fmt: skip


def of_worker(keys: Keys) -> list[Command]:
    """Return what a worker does, likewise."""
    record, stream, due = keys.task(_TASK), keys.stream(_TASK), keys.due(_WORKFLOW)
    doorbell, running, worker = keys.doorbell(_WORKFLOW), keys.running(_WORKER), keys.worker(_WORKER)
    request, dead, tasks = (
        keys.request(DEFAULT_TENANT, _TASK.task_id), keys.dead(DEFAULT_TENANT), keys.tasks(DEFAULT_TENANT),
    )  # fmt: skip
    # A workflow may start tasks, of its own session.
    session, of_session = keys.session(DEFAULT_TENANT, _SESSION), keys.session_tasks(DEFAULT_TENANT, _SESSION)
    joins, state = keys.session_joins(DEFAULT_TENANT, _SESSION), keys.session_state(DEFAULT_TENANT, _SESSION)
    return [
        ("EVALSHA", _SCRIPT, 2, record, stream),
        ("EVAL", "return 1", 12, *keys.of_terms, keys.workers, worker, running, *keys.queue_of(_WORKFLOW)),
        # A claim reads what tenants may take; nothing of a worker's writes it.
        ("EVAL", "return 1", 12, *keys.of_terms, keys.workers, running, keys.tenants, *keys.queue_of(_WORKFLOW)),
        ("HMGET", keys.tenants, "probe"),
        ("EVAL", "return 1", 2, dead, request),
        (
            "EVAL", "return 1", 16, *keys.of_terms, *keys.queue_of(_WORKFLOW),
            tasks, request, session, of_session, dead, joins, state,
        ),
        ("GET", request), ("SET", request, "", "PX", 1), ("ZCARD", due), ("XRANGE", stream, "-", "+"),
        ("TIME",),
        ("EXISTS", record), ("DEL", worker, running), ("DEL", doorbell),
        ("EXPIRE", doorbell, 60), ("PEXPIRE", stream, 1), ("PERSIST", record),
        ("LPUSH", doorbell, "1"), ("LTRIM", doorbell, 0, 0), ("BLPOP", doorbell, "0.1"),
        ("HGET", record, "state"), ("HMGET", record, "state"), ("HGETALL", running), ("HVALS", running),
        ("HLEN", running), ("HSET", keys.workflows, "probe", ""), ("HINCRBY", record, "attempt", 1),
        ("HDEL", running, _TASK.member),
        ("ZADD", keys.dead(DEFAULT_TENANT), 0, _TASK.task_id), ("ZREM", due, _TASK.member),
        (
            "EVAL", "return 1", 15, *keys.of_terms, running, keys.parked, session, of_session, joins, state,
            *keys.queue_of(_WORKFLOW),
        ),
        ("PTTL", session),
        ("ZREM", keys.parked, _TASK.member),
        ("ZLEXCOUNT", keys.holders, "-", "+"),
        ("EVAL", "return 1", 1, keys.stored(DEFAULT_TENANT)), ("HKEYS", keys.stored(DEFAULT_TENANT)),
        ("ZSCORE", keys.workers, _WORKER), ("ZRANGE", due, 0, 0), ("ZRANGE", keys.blocked, "-", "+", "BYLEX"),
        ("XADD", stream, "NOMKSTREAM", "0-1", "e", ""), ("XLEN", stream), ("XREVRANGE", stream, "+", "-"),
        ("XTRIM", stream, "MINID", "0-1"),
        ("PUBLISH", keys.bell(_TASK), ""), ("PUBLISH", keys.ends("probe"), ""),
        ("PUBLISH", keys.joined(DEFAULT_TENANT, _SESSION), ""),
        ("SUBSCRIBE", keys.control(_WORKER)), ("UNSUBSCRIBE", keys.control(_WORKER)),
        ("SUBSCRIBE", keys.bell(_TASK)), ("UNSUBSCRIBE", keys.bell(_TASK)),
    ]  # fmt: skip


async def lacking(redis: Redis, needs: Sequence[Command]) -> list[str]:
    """Return which of these commands the server would refuse to this user, in words; nothing is carried out.

    Raises:
        StoreUnavailable: it does not answer.
    """
    wire = Wire(redis)
    try:
        # First alone: without MULTI, what follows would be carried out.
        frame = await wire.call([("MULTI",), ("DISCARD",)])
        if any(isinstance(reply, StoreForbidden) for reply in frame):
            return ["MULTI or DISCARD, by which the other rights are tried"]
        raise_refusals(frame)
        # Rights are looked at when a command is queued.
        replies = await wire.call([("MULTI",), *needs, ("DISCARD",)])
    finally:
        wire.abandon()
    return [
        _in_words(need) for need, reply in zip(needs, replies[1:], strict=False) if isinstance(reply, StoreForbidden)
    ]


def _in_words(need: Command) -> str:
    verb, *arguments = map(str, need)
    match verb:
        case "EVAL" | "EVALSHA":
            names = arguments[2:]
        case "DEL" | "SUBSCRIBE":
            names = arguments
        case _:
            names = arguments[:1]
    return f"{verb} of {', '.join(names)}" if names else verb
