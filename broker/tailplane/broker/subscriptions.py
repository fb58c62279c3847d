"""One Pub/Sub connection that comes back: for a control plane the bells of its streams, for a worker its cancellations.

A message only ever says "look": it can be lost with the connection, so every subscription that is confirmed, the first
time or again after a reconnect, is told like a message without data. The connection proves that it lives by hearing
itself; and since a replica lets one publish and hear, too, it is asked now and then whether it is still the primary.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import Redis

from tailplane.broker.connection import HandedOver, follow_primary
from tailplane.broker.outage import Outage
from tailplane.broker.wire import Line, Wire
from tailplane.protocol.errors import StoreForbidden, StoreUnavailable

log = structlog.get_logger("tailplane.broker")

# Seconds: between two beats that the connection must hear; silence after which it counts as dead; for a subscription
# to be confirmed; between two tries to connect; between two questions to the sentinels, if there are any: what is
# written to a former primary until then is lost, and it may go on as if nothing were for many seconds.
BEAT = 5.0
SILENCE = 15.0
CONFIRMATION = 5.0
PAUSE = 0.25
FOLLOW_EVERY = 1.0

OnMessage = Callable[[str, bytes | None], None]


class Subscriptions:
    """The channels that this process hears. `run` must be running.

    Args:
        prefix: the deployment's: begins the channel on which the process hears itself.
        on_message: called with a channel and what came over it; with None when messages may have been missed before.
    """

    def __init__(self, redis: Redis, prefix: str, on_message: OnMessage) -> None:
        self._redis = redis
        self._wire = Wire(redis)
        # Nobody else uses it.
        self._own = f"{prefix}:{{queue}}:echo:{os.urandom(8).hex()}"
        self._on_message = on_message
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._line: Line | None = None
        self._lost = asyncio.Event()
        self._heard_at = 0.0
        self._outage = Outage("hearing messages")

    async def subscribe(self, channel: str) -> None:
        """Return when messages of `channel` are heard.

        Raises:
            StoreUnavailable: Redis is away, or did not confirm in time; ask again or unsubscribe.
        """
        confirmed = self._wanted.get(channel)
        if confirmed is None:
            if self._outage.is_on:
                # Known already: who asks now is told at once, not after the time that a confirmation may take.
                raise StoreUnavailable("Redis is away")
            confirmed = self._wanted[channel] = asyncio.get_running_loop().create_future()
            # Without a connection there is nothing to send: `_listen` subscribes to all that is wanted.
            if self._line is not None:
                with contextlib.suppress(StoreUnavailable):
                    self._line.send([("SUBSCRIBE", channel)])
        try:
            async with asyncio.timeout(CONFIRMATION):
                await asyncio.shield(confirmed)
        except TimeoutError:
            raise StoreUnavailable("Redis does not confirm a subscription") from None

    async def unsubscribe(self, channel: str) -> None:
        """Hear `channel` no more."""
        if self._wanted.pop(channel, None) and self._line is not None:
            with contextlib.suppress(StoreUnavailable):
                self._line.send([("UNSUBSCRIBE", channel)])

    async def run(self) -> None:
        """Listen until cancelled, connecting again as often as needed."""
        connection: HandedOver = self._redis.connection_pool.get_available_connection()
        try:
            while True:
                self._lost.clear()
                line = Line(self._take, self._lost.set)
                try:
                    await line.open(connection)
                    await self._listen(line)
                except StoreUnavailable as error:
                    self._outage.noticed(error)
                finally:
                    self._line = None
                    line.abort()
                await asyncio.sleep(PAUSE)
        finally:
            await connection.disconnect(nowait=True)
            await self._redis.connection_pool.release(connection)

    async def _listen(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        line.send([("SUBSCRIBE", self._own, *self._wanted)])
        self._line = line
        self._outage.over()
        minding = {asyncio.ensure_future(self._beat(line)), asyncio.ensure_future(self._follow())}
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
        if isinstance(reply, StoreUnavailable) and not isinstance(reply, StoreForbidden):
            # Whose subscription it was is not said: on a new connection all are asked for again.
            log.warning("subscription refused", reason=str(reply))
            if self._line is not None:
                self._line.abort()
            return
        if isinstance(reply, Exception):
            # Such as a user without the right to a channel: whose it was is not said, so that subscription times out.
            log.warning("subscription refused", reason=str(reply))
            return
        kind, channel, data = reply
        self._hear(kind, channel.decode(), data)

    def _hear(self, kind: bytes, channel: str, data: bytes) -> None:
        if channel not in self._wanted:
            return
        if kind == b"message":
            self._on_message(channel, data)
        elif kind == b"subscribe":
            confirmed = self._wanted[channel]
            if not confirmed.done():
                confirmed.set_result(None)
            self._on_message(channel, None)

    async def _beat(self, line: Line) -> None:
        while True:
            await asyncio.sleep(BEAT)
            with contextlib.suppress(StoreUnavailable):
                _, role = await self._wire.call([("PUBLISH", self._own, b""), ("ROLE",)])
                # One who may not ask gets a refusal, and goes on.
                if isinstance(role, list) and role[0] == b"slave":
                    self._wire.abandon()
                    line.abort()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_EVERY)
            with contextlib.suppress(StoreUnavailable):
                await follow_primary(self._redis)
