"""What a claim and an enqueue cost the queue's server, by how many tenants there are.

    python -m benchmarks.claims [--tenants 1,2,10,100,1000] [--rounds 5]

Each tenant has a backlog of one workflow; a worker of a hundred slots takes ten tasks at a time, in the order that its
account of the tenants gives, as the workers do. Told are microseconds of processor time of the server's main thread for
each claim (with the acknowledgement of what it took) and each enqueue, the least of several rounds: other processes of
a busy machine only add to it. One tenant is the default one, whose path is that of a deployment without tenants.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from tailplane.broker import Broker, Claim, TaskRef, WorkerRecord, WorkflowRecord, connect
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol.ids import WorkerId, new_task_id, new_worker_id

_FLOW = "echo"
_CLAIMS, _FREE, _ENQUEUES, _LEASE = 500, 10, 2000, timedelta(hours=1)


@dataclass
class Costs:
    """Microseconds of one call; `idle` is a claim that finds nothing, `calls` how often a claim asked the server."""

    claim: float
    idle: float
    enqueue: float
    calls: float


async def measure(redis: Redis, tenants: int) -> Costs:
    await redis.flushall()
    hour = timedelta(hours=1)
    broker, worker = Broker.over(redis, prefix="bench", retention=hour, start_within=hour), new_worker_id()
    record = WorkerRecord(worker, "host", 1, "1", [_FLOW], 100, 0)
    await broker.queue.register(record, [WorkflowRecord(_FLOW, "1", "", {}, None, 1, None)], _LEASE)
    names = ["default"] if tenants == 1 else [f"t{n}" for n in range(tenants)]
    # Once, so that scripts and queues are there.
    await _enqueue(broker, names, 2 * len(names))
    enqueue, _ = await _cost(redis, _enqueue(broker, names, _ENQUEUES), _ENQUEUES)
    await _enqueue(broker, names, _CLAIMS * _FREE)
    await redis.config_resetstat()
    claim, calls = await _cost(redis, _take(broker, worker, _CLAIMS), _CLAIMS)
    while await broker.redis.keys("bench:{queue}:due*"):
        await _take(broker, worker, 100)
    await _take(broker, worker, 100)
    idle, _ = await _cost(redis, _take(broker, worker, _CLAIMS), _CLAIMS)
    return Costs(claim, idle, enqueue, calls)


async def _enqueue(broker: Broker, names: list[str], count: int) -> None:
    for begin in range(0, count, 100):
        numbers = range(begin, min(begin + 100, count))
        tasks = [TaskRef(new_task_id(), names[n % len(names)]) for n in numbers]
        await asyncio.gather(*(broker.queue.enqueue(task, _FLOW) for task in tasks))


async def _take(broker: Broker, worker: WorkerId, claims: int) -> None:
    take = _taker(broker, worker)
    for _ in range(claims):
        await broker.queue.acknowledge(worker, *await take())


def _taker(broker: Broker, worker: WorkerId) -> Callable[[], Awaitable[list[Claim]]]:
    try:
        from tailplane.workers.turns import Turns
    except ImportError:
        # Measured beside releases that knew of no tenants.
        async def take_plainly() -> list[Claim]:
            return (await broker.queue.claim(worker, _FREE, {_FLOW: _FREE})).taken

        return take_plainly
    turns = Turns()

    async def take() -> list[Claim]:
        order = turns.order([_FLOW])
        claims = await broker.queue.claim(worker, _FREE, {_FLOW: _FREE}, order)
        if claims.turned is not None:
            turns.learn(claims.turned)
            order = turns.order([_FLOW])._replace(version=None)
            claims = await broker.queue.claim(worker, _FREE, {_FLOW: _FREE}, order)
        turns.note(order, claims)
        for claim in claims.taken:
            turns.ended(claim)
        return claims.taken

    return take


async def _cost(redis: Redis, work: Awaitable[None], count: int) -> tuple[float, float]:
    """Return microseconds for each of `count` things that are done, and how many scripts are run for each."""
    before = await redis.info()
    await work
    after = await redis.info()
    seconds = after["used_cpu_user_main_thread"] - before["used_cpu_user_main_thread"]
    seconds += after["used_cpu_sys_main_thread"] - before["used_cpu_sys_main_thread"]
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    return seconds / count * 1e6, calls / count


async def main(tenants: list[int], rounds: int) -> None:
    print(f"{'tenants':>8} {'claim µs':>9} {'calls':>6} {'idle µs':>8} {'enqueue µs':>11}")
    with EmbeddedServer() as server:
        redis = connect(server.url, Redis)
        for count in tenants:
            found = [await measure(redis, count) for _ in range(rounds)]
            least = Costs(*(min(getattr(each, name) for each in found) for name in Costs.__dataclass_fields__))
            print(f"{count:>8} {least.claim:>9.1f} {least.calls:>6.2f} {least.idle:>8.1f} {least.enqueue:>11.1f}")
        await redis.aclose(close_connection_pool=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", default="1,2,10,100,1000")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    asyncio.run(main([int(each) for each in asked.tenants.split(",")], asked.rounds))
