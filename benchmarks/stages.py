"""What an event costs in each stage that is ours to make cheap, without sockets and other processes.

    python -m benchmarks.stages

Each stage is run alone, 50,000 events of 200 bytes at a time, and the median of nine runs is told in microseconds of
processor time. Together with what the processes take under load it says where an event's time goes.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgpack

from benchmarks.percentiles import median
from benchmarks.system import PAD
from tailplane.broker import Append, Begun, Entry, TaskRef
from tailplane.broker.records import BEGUN_FIELDS, running_record
from tailplane.client.decoder import FrameDecoder
from tailplane.client.runs import Run
from tailplane.control_plane.formats import SSE
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.frames import encode_frame
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.workers.context import Context
from tailplane.workers.emitter import Emitter, Hooks, Limits

_EVENTS, _RUNS, _PER_ENTRY = 50_000, 9, 1000
_PADDING = "x" * PAD
_PLENTY = 1 << 40


def _data(i: int) -> dict[str, Any]:
    return {"i": i, "t": time.monotonic(), "pad": _PADDING}


def _make() -> None:
    for i in range(_EVENTS):
        _data(i)


def _pack_bare() -> None:
    pack = msgpack.Packer().pack
    for i in range(_EVENTS):
        pack([1.5, _data(i)])


def _pack() -> None:
    for i in range(_EVENTS):
        pack_event(_data(i))


def _emitter() -> Emitter:
    limits = Limits(event=_PLENTY, entry=200 * _PER_ENTRY, task=_PLENTY, emit=_PLENTY)
    task, worker = TaskRef(new_task_id()), new_worker_id()
    record = running_record(task, worker, 1, 0, 0.0, None, [None] * len(BEGUN_FIELDS))
    begun = Begun(record, Append(task, EntryId(1, 1), b"\x90"), 1)
    return Emitter(begun, limits, Hooks(lambda _: None, lambda _: None))


async def _emit() -> None:
    context = Context("t", 1, "emit", None, {}, _emitter())
    for i in range(_EVENTS):
        await context.emit(_data(i))


def _write() -> None:
    context = Context("t", 1, "emit", None, {}, _emitter())
    for i in range(_EVENTS):
        context.write_event_to_stream(_data(i))


def _write_and_take() -> None:
    emitter = _emitter()
    for i in range(_EVENTS):
        emitter.write(_data(i))
    while emitter.take():
        emitter.taken()


def _payload() -> bytes:
    return join_events([pack_event(_data(i)) for i in range(_PER_ENTRY)])


def _encode_sse(payload: bytes) -> None:
    for n in range(_EVENTS // _PER_ENTRY):
        SSE.encode(Entry(EntryId(1, (n + 1) * _PER_ENTRY), payload), 0)


def _unpack_bare(payload: bytes) -> None:
    for _ in range(_EVENTS // _PER_ENTRY):
        msgpack.unpackb(payload)


def _decode(payload: bytes) -> None:
    decoder = FrameDecoder(0, 1 << 24)
    for n in range(_EVENTS // _PER_ENTRY):
        (run,) = decoder.feed(encode_frame(EntryId(1, (n + 1) * _PER_ENTRY), payload))
        assert isinstance(run, Run)


def main() -> None:
    """Print the table."""
    payload = _payload()
    stages: list[tuple[str, Callable[[], Any]]] = [
        ("the benchmark's own data", _make),
        ("that, packed by msgpack alone", _pack_bare),
        ("that, packed with its time and checked", _pack),
        ("that, written to its stream", _write),
        ("that, awaited by `emit`", lambda: asyncio.run(_emit())),
        ("written and taken for an entry", _write_and_take),
        ("encoded as SSE", lambda: _encode_sse(payload)),
        ("unpacked by msgpack alone", lambda: _unpack_bare(payload)),
        ("decoded by the client, up to its iterator", lambda: _decode(payload)),
    ]
    for name, stage in stages:
        print(f"{_cost(stage):6.2f} us  {name}")


def _cost(stage: Callable[[], Any]) -> float:
    costs = []
    for _ in range(_RUNS):
        begun = time.process_time()
        stage()
        costs.append((time.process_time() - begun) / _EVENTS * 1e6)
    return median(costs)


if __name__ == "__main__":
    main()
