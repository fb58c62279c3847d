"""One Pub/Sub connection that comes back: for a control plane the bells of its streams, for a worker its cancellations.

A message only ever says "look": it can be lost with the connection, so every subscription that is confirmed, the first
time or again after a reconnect, is told like a message without data. The connection is asked now and then whether it
lives; and since a replica lets one hear, too, so is its server whether it is still the right one (see `Whereabouts`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis

from tailplane.broker.connection import HandedOver, Redirected, follow_primary
from tailplane.broker.outage import Outage
from tailplane.broker.slots import slot_of
from tailplane.broker.wire import Line, Wire
from tailplane.protocol.errors import StoreForbidden, StoreUnavailable

log = structlog.get_logger("tailplane.broker")

# Seconds: between two questions whether the connection lives; silence after which it counts as dead; for a subscription
# to be confirmed; between two tries to connect; between two questions to the sentinels, if there are any: what is
# written to a former primary until then is lost, and it may go on as if nothing were for many seconds.
BEAT = 5.0
SILENCE = 15.0
CONFIRMATION = 5.0
PAUSE = 0.25
FOLLOW_EVERY = 1.0

OnMessage = Callable[[str, bytes | None], None]


class Hearing(Protocol):
    """The channels that this process hears. `run` must be running.

    Whoever makes one gives a callback, which is called with a channel and what came over it; with None when messages
    may have been missed before.
    """

    async def subscribe(self, channel: str) -> None:
        """Return when messages of `channel` are heard.

        Raises:
            StoreUnavailable: Redis is away, or did not confirm in time; ask again or unsubscribe.
        """
        ...

    async def unsubscribe(self, channel: str) -> None:
        """Hear `channel` no more."""
        ...

    async def run(self) -> None:
        """Listen until cancelled, connecting again as often as needed."""
        ...


class Whereabouts(Protocol):
    """Where to listen."""

    async def client(self) -> Redis:
        """Return a client of the server to connect to, asked for each connection.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        ...

    async def mind(self) -> None:
        """Return when the server is no longer the right one; run while a connection lasts."""
        ...

    def lost(self) -> None:
        """Take notice that the connection was lost, or not made."""
        ...


class Primary:
    """The one server, or the primary that its sentinels name."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wire = Wire(redis)

    async def client(self) -> Redis:
        return self._redis

    async def mind(self) -> None:
        following = asyncio.ensure_future(self._follow())
        try:
            while True:
                await asyncio.sleep(BEAT)
                with contextlib.suppress(StoreUnavailable):
                    (role,) = await self._wire.call([("ROLE",)])
                    # One who may not ask gets a refusal, and goes on.
                    if isinstance(role, list) and role[0] == b"slave":
                        self._wire.abandon()
                        return
        finally:
            following.cancel()
            await asyncio.wait({following})

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_EVERY)
            with contextlib.suppress(StoreUnavailable):
                await follow_primary(self._redis)

    def lost(self) -> None:
        """Nothing: the next connection finds the server again, or its successor."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The commands that subscribe, and what the server calls what it says."""

    subscribe: str
    unsubscribe: str
    message: bytes
    subscribed: bytes
    unsubscribed: bytes
    # Whether one command may name several channels.
    takes_many: bool


PLAIN = Dialect("SUBSCRIBE", "UNSUBSCRIBE", b"message", b"subscribe", b"unsubscribe", True)
SHARDED = Dialect("SSUBSCRIBE", "SUNSUBSCRIBE", b"smessage", b"ssubscribe", b"sunsubscribe", False)


class Subscriptions:
    """The channels that this process hears over one connection; a `Hearing`.

    Args:
        where: which server to listen to.
        on_message: see `Hearing`.
        on_stray: called with channels that the server has let go of, or does not take, because others have their slots.
    """

    def __init__(
        self,
        where: Whereabouts,
        on_message: OnMessage,
        dialect: Dialect = PLAIN,
        on_stray: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        self._where = where
        self._on_message = on_message
        self._dialect = dialect
        self._on_stray = on_stray
        self._wanted: dict[str, asyncio.Future[None]] = {}
        # Of channels that were unsubscribed: how many of the server's words for it are on their way.
        self._leaving: dict[str, int] = {}
        # Slots that the server has said are elsewhere, since it was last looked which channels that means.
        self._redirected: set[int] = set()
        self._line: Line | None = None
        self._lost = asyncio.Event()
        self._heard_at = 0.0
        self._outage = Outage("hearing messages")

    async def subscribe(self, channel: str) -> None:
        """See `Hearing`."""
        confirmed = self._wanted.get(channel)
        if confirmed is None:
            if self._outage.is_on:
                # Known already: who asks now is told at once, not after the time that a confirmation may take.
                raise StoreUnavailable("Redis is away")
            confirmed = asyncio.get_running_loop().create_future()
            self.adopt(channel, confirmed)
        try:
            async with asyncio.timeout(CONFIRMATION):
                await asyncio.shield(confirmed)
        except TimeoutError:
            raise StoreUnavailable("Redis does not confirm a subscription") from None

    async def unsubscribe(self, channel: str) -> None:
        """See `Hearing`."""
        self.let_go(channel)

    def adopt(self, channel: str, confirmed: "asyncio.Future[None]") -> None:
        """Hear a channel from now on; `confirmed` is told when that is so, if it was not before."""
        self._wanted[channel] = confirmed
        # Without a connection there is nothing to send: `_listen` subscribes to all that is wanted.
        if self._line is not None:
            with contextlib.suppress(StoreUnavailable):
                self._line.send([(self._dialect.subscribe, channel)])

    def let_go(self, channel: str) -> "asyncio.Future[None] | None":
        """Hear `channel` no more; return what its subscribers wait for, None if there are none."""
        confirmed = self._wanted.pop(channel, None)
        if confirmed and self._line is not None:
            with contextlib.suppress(StoreUnavailable):
                self._line.send([(self._dialect.unsubscribe, channel)])
                self._leaving[channel] = self._leaving.get(channel, 0) + 1
        return confirmed

    async def run(self) -> None:
        """See `Hearing`."""
        while True:
            try:
                await self._connect_and_listen()
            except StoreUnavailable as error:
                self._outage.noticed(error)
                self._where.lost()
            await asyncio.sleep(PAUSE)

    async def _connect_and_listen(self) -> None:
        pool = (await self._where.client()).connection_pool
        connection: HandedOver = pool.get_available_connection()
        self._lost.clear()
        line = Line(self._take, self._lost.set)
        try:
            await line.open(connection)
            await self._listen(line)
        finally:
            self._line = None
            line.abort()
            await connection.disconnect(nowait=True)
            await pool.release(connection)

    async def _listen(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        self._leaving.clear()
        verb, wanted = self._dialect.subscribe, list(self._wanted)
        if self._dialect.takes_many and wanted:
            line.send([(verb, *wanted)])
        else:
            line.send([(verb, channel) for channel in wanted])
        self._line = line
        self._outage.over()
        minding = {asyncio.ensure_future(self._beat(line)), asyncio.ensure_future(self._mind(line))}
        try:
            while (left := self._heard_at + SILENCE - loop.time()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._lost.wait()
                        raise StoreUnavailable("the connection was lost")
            raise StoreUnavailable(f"nothing heard for {SILENCE:.0f} s")
        finally:
            for each in minding:
                each.cancel()
            await asyncio.wait(minding)

    def _take(self, reply: Any) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        match reply:
            case StoreUnavailable() if not isinstance(reply, StoreForbidden):
                # Whose subscription it was is not said: on a new connection all are asked for again.
                log.warning("subscription refused", reason=str(reply))
                if self._line is not None:
                    self._line.abort()
            case Redirected():
                # Each of the thousands of channels that a server had may bring one: they are looked at together.
                if not self._redirected:
                    asyncio.get_running_loop().call_soon(self._tell_strays)
                self._redirected.add(reply.slot)
            case Exception():
                # Such as a user without the right to a channel: whose it was is not said, so that it times out.
                log.warning("subscription refused", reason=str(reply))
            case [kind, channel, data]:
                self._hear(kind, channel.decode(), data)
            case _:
                # The answer to a beat.
                pass

    def _tell_strays(self) -> None:
        slots, self._redirected = self._redirected, set()
        # Who has not the slot redirects an `SUNSUBSCRIBE`, too: nothing else is said of those channels.
        self._leaving = {channel: left for channel, left in self._leaving.items() if slot_of(channel) not in slots}
        if strays := [channel for channel in self._wanted if slot_of(channel) in slots]:
            self._on_stray(strays)

    def _hear(self, kind: bytes, channel: str, data: bytes) -> None:
        dialect = self._dialect
        if kind == dialect.unsubscribed and (left := self._leaving.get(channel, 0)):
            self._leaving[channel] = left - 1
            if left == 1:
                del self._leaving[channel]
            return
        if channel not in self._wanted:
            return
        if kind == dialect.message:
            self._on_message(channel, data)
        elif kind == dialect.subscribed:
            confirmed = self._wanted[channel]
            if not confirmed.done():
                confirmed.set_result(None)
            self._on_message(channel, None)
        elif kind == dialect.unsubscribed:
            self._on_stray([channel])

    async def _beat(self, line: Line) -> None:
        while True:
            await asyncio.sleep(BEAT)
            with contextlib.suppress(StoreUnavailable):
                line.send([("PING",)])

    async def _mind(self, line: Line) -> None:
        await self._where.mind()
        line.abort()
