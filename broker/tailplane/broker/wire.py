"""One lean connection to Redis, for what is done thousands of times a second.

redis-py makes the connection (URL, TLS, credentials, deadlines) and hands it over; from then on commands are packed and
replies parsed by hiredis, in C, and any number of callers share the connection: each writes its commands at once, and
takes its replies in its turn. A command costs a tenth of what redis-py's own path does (docs/decisions/0006). No
command that blocks in Redis may be sent here: it would hold up all others.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from hiredis import Reader, pack_command
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, ResponseError

from tailplane.broker.connection import COMMAND_DEADLINE, HandedOver, reply_error, store_errors
from tailplane.broker.store import Argument, Command
from tailplane.protocol.errors import StoreForbidden, StoreUnavailable

_NOTHING = object()
# Seconds between two looks at whether the oldest call is overdue.
_WATCH_EVERY = 0.5


class Line(asyncio.Protocol):
    """A connection that redis-py has made, and what comes over it, reply by reply.

    Args:
        on_reply: called with each reply; an error is an exception object.
        on_lost: called once, when the connection has ended.
    """

    def __init__(self, on_reply: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._reader = Reader(notEnoughData=_NOTHING, replyError=reply_error, protocolError=ConnectionError)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        # redis-py's own protocol: it closes the connection, and waits to be told that it is closed.
        self._before: asyncio.BaseProtocol | None = None

    async def open(self, connection: HandedOver) -> None:
        """Connect, and take over.

        Raises:
            StoreUnavailable: it can't be done now.
        """
        with store_errors():
            # What a lost connection left behind in redis-py's object.
            await connection.disconnect(nowait=True)
            await connection.connect()
        self._transport = connection.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    def send(self, commands: Sequence[Command]) -> None:
        """Write commands; what callers send in one turn of the event loop goes out in one system call.

        Raises:
            StoreUnavailable: the connection has ended, and `on_lost` is about to be called.
        """
        if self.is_closing:
            raise StoreUnavailable("Redis does not answer: the connection was lost")
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += [pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    @property
    def is_closing(self) -> bool:
        """Whether it has ended, and `on_lost` is about to be called."""
        return self._transport is None or self._transport.is_closing()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what Redis sent."""
        reader, on_reply = self._reader, self._on_reply
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                on_reply(reply)
        except ConnectionError:
            # What comes makes no sense: whose reply is whose can't be told any more.
            on_reply(StoreUnavailable("Redis does not answer: what does is no Redis"))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody."""
        if self._before is not None:
            self._before.connection_lost(exc)
        self._on_lost()


class _Call:
    """Commands that were sent together, and the replies that have come."""

    __slots__ = ("done", "replies", "sent_at", "wanted")

    def __init__(self, done: "asyncio.Future[list[Any]]", wanted: int, sent_at: float) -> None:
        self.done = done
        self.wanted = wanted
        self.sent_at = sent_at
        self.replies: list[Any] = []


class Wire:
    """A connection that any number of callers share. It connects when first used, and again after it was lost.

    Every call has the deadline of a command; nothing is ever sent twice. What callers have in flight is bounded by
    what they may have: the writer and the hub have one call each at a time, a control plane one per request.

    Attributes:
        connections: how many it has made so far.
    """

    is_cluster = False

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.connections = 0
        self._connection: HandedOver | None = None
        self._line: Line | None = None
        self._opening: asyncio.Task[Line] | None = None
        # Those of `_line`: replies come in their order. An older line has, and fails, its own.
        self._calls: deque[_Call] = deque()
        self._watch: asyncio.TimerHandle | None = None

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one write and return their replies; a refused one's is an exception object.

        Raises:
            StoreUnavailable: Redis is away, or did not answer in time. What was sent may have been done.
        """
        if not commands:
            return []
        line = self._line
        if line is None or line.is_closing:
            # One that is closing may have calls that wait, and something unsent that never goes out.
            self.abandon()
            line = await self._open()
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future(), len(commands), loop.time())
        line.send(commands)
        self._calls.append(call)
        if self._watch is None:
            self._watch = loop.call_later(_WATCH_EVERY, self._look)
        return await call.done

    async def run(self, *command: Argument) -> Any:
        """Send one command and return its reply.

        Raises:
            StoreUnavailable: as `call`, and where Redis says that it takes nothing now.
            ResponseError: it was refused.
        """
        (reply,) = await self.call((command,))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def is_away(self, key: str) -> bool:
        """Return False: who asks may as well try."""
        return False

    def shard(self, key: str) -> None:
        """Tell nothing apart: there is one server."""

    def noticed(self, refusal: StoreUnavailable) -> None:
        """Note why the server did nothing: one that is not the primary any more is left for whoever it is now."""
        if "READONLY" in str(refusal):
            self.abandon()

    def abandon(self) -> None:
        """End the connection, and with it the calls under way; the next call makes another one."""
        if self._line is not None:
            self._line.abort()

    async def _open(self) -> Line:
        # One connects, all who come meanwhile wait for it: whoever of them is cancelled does not take it away.
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._connect())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def _connect(self) -> Line:
        if self._connection is None:
            # Of the pool, and never given back: who closes the pool closes it.
            pool = self._redis.connection_pool
            self._connection = cast(HandedOver, pool.get_available_connection())
        calls: deque[_Call] = deque()
        line = Line(partial(self._take, calls), partial(self._lose, calls))
        await line.open(self._connection)
        self._line, self._calls = line, calls
        self.connections += 1
        return line

    def _opened(self, opening: "asyncio.Task[Line]") -> None:
        self._opening = None
        if not opening.cancelled():
            # Retrieved here, so that it is not reported where nobody waits any more.
            opening.exception()

    def _take(self, calls: deque[_Call], reply: Any) -> None:
        if not calls:
            # Nobody asked: this is no Redis.
            self.abandon()
            return
        call = calls[0]
        call.replies.append(reply)
        if len(call.replies) == call.wanted:
            calls.popleft()
            if not call.done.done():
                call.done.set_result(call.replies)
        if type(reply) is StoreUnavailable:
            self.noticed(reply)

    def _lose(self, calls: deque[_Call]) -> None:
        if calls is self._calls:
            self._line = None
        for call in calls:
            if not call.done.done():
                call.done.set_exception(StoreUnavailable("Redis does not answer: the connection was lost"))
        calls.clear()

    def _look(self) -> None:
        self._watch = None
        if not self._calls:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._calls[0].sent_at > COMMAND_DEADLINE and self._line is not None:
            self._line.abort()
        else:
            self._watch = loop.call_later(_WATCH_EVERY, self._look)


def is_away(reply: object) -> bool:
    """Whether a reply only says that its shard does not answer now; a right that is missing does not come by itself."""
    return isinstance(reply, StoreUnavailable) and not isinstance(reply, StoreForbidden)


def raise_refusals(replies: Sequence[Any]) -> None:
    """Raise the first of the replies that is an error."""
    for reply in replies:
        if isinstance(reply, ResponseError | StoreUnavailable):
            raise reply
