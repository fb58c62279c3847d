"""One Pub/Sub connection that comes back: for a control plane the bells of its streams, for a worker its cancellations.

A message only ever says "look": it can be lost with the connection, so every subscription that is confirmed, the first
time or again after a reconnect, is told like a message without data. The connection proves that it lives by hearing
itself.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from tailplane.broker.connection import store_errors
from tailplane.broker.outage import Outage
from tailplane.protocol.errors import StoreUnavailable

# Seconds: between two beats that the connection must hear; silence after which it counts as dead; for a subscription
# to be confirmed; between two tries to connect.
BEAT = 5.0
SILENCE = 15.0
CONFIRMATION = 5.0
PAUSE = 0.25

OnMessage = Callable[[str, bytes | None], None]


class Subscriptions:
    """The channels that this process hears. `run` must be running.

    Args:
        prefix: the deployment's: begins the channel on which the process hears itself.
        on_message: called with a channel and what came over it; with None when messages may have been missed before.
    """

    def __init__(self, redis: Redis, prefix: str, on_message: OnMessage) -> None:
        self._redis = redis
        # Nobody else uses it.
        self._own = f"{prefix}:{{queue}}:echo:{os.urandom(8).hex()}"
        self._on_message = on_message
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._pubsub: PubSub | None = None
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
            if self._pubsub is not None:
                with contextlib.suppress(RedisError, StoreUnavailable), store_errors():
                    await self._pubsub.subscribe(channel)
        try:
            async with asyncio.timeout(CONFIRMATION):
                await asyncio.shield(confirmed)
        except TimeoutError:
            raise StoreUnavailable("Redis does not confirm a subscription") from None

    async def unsubscribe(self, channel: str) -> None:
        """Hear `channel` no more."""
        if self._wanted.pop(channel, None) and self._pubsub is not None:
            with contextlib.suppress(RedisError, StoreUnavailable), store_errors():
                await self._pubsub.unsubscribe(channel)

    async def run(self) -> None:
        """Listen until cancelled, connecting again as often as needed."""
        while True:
            try:
                with store_errors():
                    async with self._redis.pubsub() as pubsub:
                        await self._listen(pubsub)
            except (RedisError, StoreUnavailable) as error:
                self._outage.noticed(error)
            finally:
                self._pubsub = None
            await asyncio.sleep(PAUSE)

    async def _listen(self, pubsub: PubSub) -> None:
        first = set(self._wanted)
        await pubsub.subscribe(self._own, *first)
        self._pubsub = pubsub
        # Who came while that connected found no connection to subscribe with.
        if late := self._wanted.keys() - first:
            await pubsub.subscribe(*late)
        beating = asyncio.ensure_future(self._beat())
        self._outage.over()
        try:
            while True:
                message = await pubsub.get_message(timeout=SILENCE)
                if message is None:
                    raise StoreUnavailable(f"nothing heard for {SILENCE:.0f} s")
                self._hear(message["type"], message["channel"].decode(), message["data"])
        finally:
            beating.cancel()
            await asyncio.wait({beating})

    def _hear(self, kind: str, channel: str, data: bytes) -> None:
        if channel not in self._wanted:
            return
        if kind == "message":
            self._on_message(channel, data)
        elif kind == "subscribe":
            confirmed = self._wanted[channel]
            if not confirmed.done():
                confirmed.set_result(None)
            self._on_message(channel, None)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            with contextlib.suppress(StoreUnavailable), store_errors():
                await self._redis.publish(self._own, b"")
