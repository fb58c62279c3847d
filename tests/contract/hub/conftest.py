"""A running hub, and a task that the test writes to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tailplane.broker import Append, Begun, Broker, Closing, NewTask, TaskRef
from tailplane.control_plane.formats import FRAMES, Format
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.reader import Reader
from tailplane.protocol import codec, events
from tailplane.protocol.cursor import START, After, Position
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.protocol.states import Trigger

DEADLINE = 20


@dataclass
class Author:
    """Writes to one task as its attempt does."""

    broker: Broker
    task: TaskRef
    begun: Begun
    seq: int

    async def write(self, *values: object, rings: bool = True) -> None:
        """Append one entry; without a ring it is as if the bell were lost."""
        packed = events.join_events([events.pack_event(value) for value in values])
        self.seq += len(values)
        entry = EntryId(self.begun.attempt, self.seq)
        if rings:
            assert await self.broker.log.append([Append(self.task, entry, packed)]) == [None]
        else:
            key = self.broker.keys.stream(self.task)
            await self.broker.redis.execute_command("XADD", key, "NOMKSTREAM", str(entry), "e", packed)

    async def finish(self) -> None:
        """Let the task succeed."""
        last = [events.pack_platform_event(PlatformType.SUCCEEDED, {"result": None})]
        self.seq += 1
        await self.broker.tasks.finish(
            self.task, Closing(Trigger.SUCCEED, self.begun.attempt, self.seq - 1, last, ["result", codec.pack(None)])
        )


@pytest.fixture
async def author(broker: Broker) -> Author:
    """The author of a task that has just begun: its stream has two events."""
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "test", "1", codec.pack(None)))
    begun = await broker.tasks.begin(task, new_worker_id(), "here")
    return Author(broker, task, begun, begun.seq)


@pytest.fixture
async def hub(broker: Broker) -> AsyncIterator[Hub]:
    """A hub that runs."""
    hub = Hub(broker)
    running = asyncio.ensure_future(hub.run())
    yield hub
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def read(reader: Reader, up_to: int, form: Format = FRAMES) -> bytes:
    """Return what a reader hands over until its cursor is at `up_to` or its stream has ended."""
    out = b""
    async with asyncio.timeout(DEADLINE):
        while reader.cursor < up_to and not reader.is_at_end:
            out += await reader.chunk(form, 1.0)
    return out


def seqs_and_data(frames: bytes, after: int = START) -> list[tuple[int, object]]:
    """Return the events that frames hold, as our client sees them."""
    found = []
    unpacker = codec.unpacker(100_000_000)
    unpacker.feed(frames)
    for fence, seq, payload in unpacker:
        for event in events.split_payload(EntryId(fence, seq), payload, after):
            found.append((event.seq, event.data))
            after = event.seq
    return found


async def open_at(hub: Hub, author: Author, position: Position | int = START) -> Reader:
    """Open a reader of the author's task."""
    return await hub.open(author.task, After(position) if isinstance(position, int) else position)
