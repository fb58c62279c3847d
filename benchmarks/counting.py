"""What the figures for Prometheus cost where events pass, as ratios within one run.

    python -m benchmarks.counting

The writer appends to a real Valkey, the feed takes what came with its bell; with counting and without it in turn, and
the median of the pairs' ratios of processor time is told, for entries of one event (the worst case) and of many.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from benchmarks.percentiles import median
from tailplane.broker import Append, Broker, Entry, NewTask, TaskRef, connect
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.feed import Feed
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.protocol import codec
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.workers.counts import Written
from tailplane.workers.emitter import Emitter, Hooks, Limits
from tailplane.workers.kept import Kept
from tailplane.workers.writer import Writer

_PAIRS = 15
_ENTRIES, _TASKS = 4000, 8
_PLENTY = 1 << 40
_LIMITS = Limits(event=_PLENTY, entry=_PLENTY, task=_PLENTY, emit=_PLENTY)


class _SilentWritten(Written):
    def note_flush(self, taken: Sequence[Append], seconds: float) -> None:
        pass


class _SilentCounts(Counts):
    def note_entry(self, entry: Entry) -> bool:
        return False


async def _append(broker: Broker, written: Written, per_entry: int) -> float:
    """Return the processor time of writing, packing and appending so many entries, one after the other."""
    worker = new_worker_id()
    writer = Writer(broker.log, Kept(broker.log, broker.tasks, worker, 1 << 20))
    writer.written = written
    running = asyncio.ensure_future(writer.run())
    emitters = []
    for _ in range(_TASKS):
        task = TaskRef(new_task_id())
        await broker.tasks.create(NewTask(task, "flow", "1", codec.pack(None)))
        begun = await broker.tasks.begin(task, worker, "host")
        emitters.append(Emitter(begun, _LIMITS, Hooks(writer.ring, print)))
    began = time.process_time()
    for _ in range(_ENTRIES // _TASKS):
        for emitter in emitters:
            for _ in range(per_entry):
                emitter.write("a token")
        for emitter in emitters:
            while emitter.unsent_bytes:  # noqa: ASYNC110 (to be told would be a cost of its own)
                await asyncio.sleep(0.0005)
    took = time.process_time() - began
    running.cancel()
    return took


async def _take(counts: Counts, per_entry: int) -> float:
    """Return the processor time of taking so many entries into a window, each waking a reader."""
    feed = Feed(TaskRef(new_task_id()), counts)
    payload = join_events([pack_event("a token")] * per_entry)
    entries = [Entry(EntryId(1, (n + 1) * per_entry), payload) for n in range(_ENTRIES)]
    feed.begin(entries[0])
    feed.watch(lambda: None)
    began = time.process_time()
    for entry in entries[1:]:
        feed.take(entry)
        await asyncio.sleep(0)
    return time.process_time() - began


async def _run(url: str) -> None:
    redis = connect(url, Redis)
    broker = Broker.over(redis, prefix="bench", retention=timedelta(hours=1), start_within=timedelta(hours=1))
    for per_entry in (1, 50):
        pairs = [
            ((await _append(broker, Written(), per_entry)), (await _append(broker, _SilentWritten(), per_entry)))
            for _ in range(_PAIRS)
        ]
        _tell("written and appended", per_entry, pairs)
        pairs = [(await _take(Counts(), per_entry), await _take(_SilentCounts(), per_entry)) for _ in range(_PAIRS)]
        _tell("taken by a feed", per_entry, pairs)
    await redis.aclose(close_connection_pool=True)


def _tell(what: str, per_entry: int, pairs: list[tuple[float, float]]) -> None:
    ratio = median([counted / silent for counted, silent in pairs])
    each = median([counted for counted, _ in pairs]) / _ENTRIES * 1e6
    print(f"{ratio:6.3f} times the processor time  {each:7.1f} us an entry of {per_entry:2} events, {what}")


def main() -> None:
    """Print the table."""
    with EmbeddedServer() as server:
        asyncio.run(_run(server.url))


if __name__ == "__main__":
    main()
