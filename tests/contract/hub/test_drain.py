"""A stream whose process drains ends at once, also where an event comes in the same moment."""

import asyncio
from datetime import timedelta
from typing import Any

from tailplane.broker import Entry
from tailplane.control_plane.access import ANYBODY
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.formats import FRAMES
from tailplane.control_plane.gathering import TRANSPORT
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.open_streams import OpenStreams
from tailplane.control_plane.streaming import EventStream
from tailplane.protocol import events
from tailplane.protocol.cursor import After
from tailplane.protocol.ids import EntryId

from .conftest import DEADLINE, Author


class Socket:
    """A client's socket that takes everything."""

    def __init__(self) -> None:
        self.pushed: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def push(self, data: bytes) -> None:
        self.pushed.append(data)


async def test_a_drain_ends_a_stream_that_grows_in_the_same_moment(hub: Hub, author: Author) -> None:
    drain, socket, sent = asyncio.Event(), Socket(), []
    reader = await hub.open(author.task, After(0))
    stream = EventStream(reader, FRAMES, timedelta(minutes=5), drain, {}, Counts(), OpenStreams().enter(ANYBODY))

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    running = asyncio.ensure_future(stream.run({TRANSPORT: socket}, receive, send))
    async with asyncio.timeout(DEADLINE):
        # Until it has sent what there is, and waits for more.
        while reader._waiting is None or not reader.is_caught_up:
            await asyncio.sleep(0.005)
        # What comes now is handed to readers in the next turn of the loop, and so is the drain.
        feed = hub._feeds[author.task]
        payload = events.join_events([events.pack_event("meanwhile")])
        assert feed.take(Entry(EntryId(feed.tail.fence, feed.tail.seq + 1), payload))
        drain.set()
        hub.wake_all()
        await running
    assert sent[-1]["more_body"] is False
