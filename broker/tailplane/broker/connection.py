"""How Tailplane's servers talk to Redis: connection settings, deadlines, and Redis' errors turned into ours."""

import asyncio
import builtins
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from tailplane.protocol.errors import StoreUnavailable

# Seconds. Far above the longest script; below what a caller of the HTTP API would wait.
COMMAND_DEADLINE = 5.0
CONNECT_DEADLINE = 2.0

_AWAY = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
    OSError,
)
# How a server's errors begin that says that it can't do anything right now, rather than that it does not want to.
_NOT_NOW = (
    "BUSY ",
    "CLUSTERDOWN ",
    "LOADING ",
    "MASTERDOWN ",
    "MISCONF ",
    "NOREPLICAS ",
    "OOM ",
    "READONLY ",
    "TRYAGAIN ",
)

R = TypeVar("R", bound=Redis)


def connect(url: str, kind: type[R]) -> R:
    """Return a client of `kind` for `url` (redis://, rediss://, unix://); it connects when first used.

    A command is never repeated behind the caller's back: whether it may be is a question for each verb.
    """
    client: R = kind.from_url(
        url,
        socket_timeout=COMMAND_DEADLINE,
        socket_connect_timeout=CONNECT_DEADLINE,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        max_connections=10_000,
    )
    # Of its own kind for each scheme; the pool has no connections yet.
    pool = client.connection_pool
    pool.connection_class = type(pool.connection_class.__name__, (HandedOver, pool.connection_class), {})
    return client


class HandedOver(AbstractConnection):
    """A connection that can be taken over by a `Wire`, or else one on which a command can be cancelled at any time.

    redis-py sends by `asyncio.wait_for`, which up to Python 3.11 swallows a cancellation that comes when the bytes are
    just out: a task that is to end would wait for the reply instead, and go on.
    """

    @property
    def transport(self) -> asyncio.Transport:
        """What the bytes go over, once it is connected."""
        assert self._writer is not None
        return cast(asyncio.Transport, self._writer.transport)

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        elif check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        if isinstance(command, str):
            command = command.encode()
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command([command] if isinstance(command, bytes) else command)
        except BaseException as error:
            # What was sent in part can't be taken back: the connection is of no more use.
            await self.disconnect(nowait=True)
            if isinstance(error, builtins.TimeoutError):
                raise TimeoutError("Timeout writing to socket") from None
            if isinstance(error, OSError):
                raise ConnectionError(f"Error while writing to socket: {error}") from error
            raise


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what redis-py raises when Redis is away, loading, full or read-only into StoreUnavailable."""
    try:
        yield
    except _AWAY as error:
        raise StoreUnavailable(f"Redis does not answer: {type(error).__name__}") from error
    except ResponseError as error:
        if not _is_not_now(error):
            raise
        raise StoreUnavailable(f"Redis takes nothing now: {error}") from error
    except RuntimeError as error:
        # uvloop's way to say that the other side closed the connection while redis-py was about to write into it.
        if "the handler is closed" not in str(error):
            raise
        raise StoreUnavailable("Redis does not answer: it closed the connection") from error


def reply_error(text: str) -> StoreUnavailable | ResponseError:
    """Return the exception that an error reply stands for."""
    if text.startswith(_NOT_NOW):
        return StoreUnavailable(f"Redis takes nothing now: {text}")
    if text.startswith("NOSCRIPT "):
        return NoScriptError(text)
    return ResponseError(text)


def _is_not_now(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith(_NOT_NOW)
