"""How Tailplane's servers talk to Redis: URLs, connection settings, deadlines, and Redis' errors turned into ours."""

import asyncio
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from tailplane.broker import sentinel
from tailplane.broker.addresses import Address
from tailplane.protocol.errors import StoreForbidden, StoreUnavailable

# Seconds. Far above the longest script; below what a caller of the HTTP API would wait.
COMMAND_DEADLINE = 5.0
CONNECT_DEADLINE = 2.0

# Of all connections; what a URL says overrules them.
COMMON_OPTIONS: Mapping[str, Any] = {
    "socket_timeout": COMMAND_DEADLINE,
    "socket_connect_timeout": CONNECT_DEADLINE,
    "socket_keepalive": True,
    "retry": Retry(NoBackoff(), 0),
    "max_connections": 10_000,
    # Two commands less for each connection, and a right less: servers before 7.2 don't know them.
    "lib_name": None,
    "lib_version": None,
}

_AWAY = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ClusterDownError,
    # Something else listens there, or stands in between.
    InvalidResponse,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
    OSError,
)
# How a server's errors begin that says that it can't do anything right now, rather than that it does not want to; and
# what they mean. Their own text may name scripts and lines, which are nobody's business.
_NOT_NOW = {
    "BUSY": "it is busy with a script",
    "CLUSTERDOWN": "its cluster is down",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "MISCONF": "it can't write to its disk",
    "NOREPLICAS": "too few replicas follow it",
    "OOM": "its memory is full",
    "READONLY": "it is a replica",
    "TRYAGAIN": "its cluster moves the key",
    "UNBLOCKED": "it has become a replica",
}

# How a refusal for want of a right begins: of a command, and of one that a script runs, in Redis 7.0 and later.
_FORBIDDEN = ("NOPERM ", "ERR ACL failure in script", "ERR The user executing the script can't")

_SCHEMES = ("redis", "rediss", "unix", *sentinel.SCHEMES)

R = TypeVar("R", bound=Redis)


def check_url(url: str) -> str:
    """Return `url` if a server may be there.

    Raises:
        ValueError: it can't be; the message says what would be right, and holds nothing of the URL.
    """
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise ValueError(f"a URL of Redis begins with {', '.join(f'{each}://' for each in _SCHEMES)}")
    try:
        pool = _pool(url)
    except ValueError as error:
        if scheme in sentinel.SCHEMES:
            raise
        # Its text may show what was taken for the port, which can be a piece of a password.
        raise ValueError(
            "that is no URL of Redis, such as redis://[user:password@]host[:port][/database]; "
            "@ : / ? and # in a password must be percent-encoded"
        ) from error
    try:
        pool.make_connection()
    except Exception as error:
        raise ValueError("redis-py does not take the options behind the ? of the URL") from error
    return url


def connect(url: str, kind: type[R]) -> R:
    """Return a client of `kind` for `url`; it connects when first used.

    A command is never repeated behind the caller's back: whether it may be is a question for each verb.

    Args:
        url: redis://, rediss://, unix://; or, for a primary that sentinels know, redis+sentinel:// or rediss+sentinel://.
    """
    return cast(R, kind.from_pool(_pool(url)))


def _pool(url: str) -> ConnectionPool:
    if url.partition("://")[0] in sentinel.SCHEMES:
        return sentinel.primary_pool(url, HandedOver, **COMMON_OPTIONS)
    pool = ConnectionPool.from_url(url, **COMMON_OPTIONS)
    # Of its own kind for each scheme; the pool has no connections yet.
    pool.connection_class = sentinel.mixed(HandedOver, pool.connection_class)
    return pool


async def follow_primary(redis: Redis) -> None:
    """Close the connections to a server that its sentinels have replaced; without sentinels there is nothing to do.

    Raises:
        StoreUnavailable: the sentinels name no primary.
    """
    pool = redis.connection_pool
    if isinstance(pool, sentinel.PrimaryPool):
        with store_errors():
            await pool.get_master_address()


class Refused(ConnectionError):
    """The server answers, and does not take the connection: such as a database that it does not have."""


class HandedOver(AbstractConnection):
    """A connection that can be taken over by a `Wire`, or else one on which a command can be cancelled at any time.

    redis-py sends by `asyncio.wait_for`, which up to Python 3.11 swallows a cancellation that comes when the bytes are
    just out: a task that is to end would wait for the reply instead, and go on.
    """

    def __init__(self, **options: Any) -> None:
        if isinstance(self, SSLConnection):
            # redis-py would take any certificate of an authority that is trusted, whoever's it is.
            options.setdefault("ssl_check_hostname", options.get("ssl_cert_reqs", "required") == "required")
        super().__init__(**options)

    @property
    def transport(self) -> asyncio.Transport:
        """What the bytes go over, once it is connected."""
        assert self._writer is not None
        return cast(asyncio.Transport, self._writer.transport)

    async def connect(self) -> None:
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if _not_now(str(error)) is not None:
                raise
            # Not to be taken for the refusal of whatever command was to be sent. Up to the first comma: of an unknown
            # command the server repeats what follows, and that of AUTH is the password.
            raise Refused(str(error).partition(",")[0]) from None

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()
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
    except sentinel.NoPrimary as error:
        # Which of them says what, the error has for the doctor; it is no business of a caller of the HTTP API.
        raise StoreUnavailable("Redis does not answer: its sentinels name no primary") from error
    except Refused as error:
        raise StoreUnavailable(f"Redis refuses the connection: {error}") from error
    except _AWAY as error:
        raise StoreUnavailable(f"Redis does not answer: {type(error).__name__}") from error
    except NoPermissionError as error:
        raise _forbidden(str(error)) from error
    except ResponseError as error:
        if (refusal := _not_now(str(error))) is None:
            raise
        raise refusal from error
    except RuntimeError as error:
        # uvloop's way to say that the other side closed the connection while redis-py was about to write into it.
        if "the handler is closed" not in str(error):
            raise
        raise StoreUnavailable("Redis does not answer: it closed the connection") from error


class Redirected(ResponseError):
    """The command was not done: another server has the slot.

    Attributes:
        is_ask: only this command belongs there, by `ASKING`: the slot is on its way.
        to: where; the host is empty where it is the one that was asked.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        kind, slot, address = text.split(" ")[:3]
        host, _, port = address.rpartition(":")
        self.is_ask = kind == "ASK"
        self.slot = int(slot)
        self.to = Address(host.strip("[]"), int(port))


def reply_error(text: str) -> StoreUnavailable | ResponseError:
    """Return the exception that an error reply stands for."""
    if text.startswith(("MOVED ", "ASK ")):
        return Redirected(text)
    if (refusal := _not_now(text)) is not None:
        return refusal
    if text.startswith("NOSCRIPT "):
        return NoScriptError(text)
    return ResponseError(text)


def _not_now(text: str) -> StoreUnavailable | None:
    if text.startswith(_FORBIDDEN):
        return _forbidden(text)
    code = text.partition(" ")[0]
    meaning = _NOT_NOW.get(code)
    return None if meaning is None else StoreUnavailable(f"Redis takes nothing now: {meaning} ({code})")


def _forbidden(text: str) -> StoreForbidden:
    if command := re.search(r"'([\w|]+)' command", text):
        what = f"to run {command[1].replace('|', ' ').upper()}"
    elif "channel" in text:
        what = "to a channel that it uses"
    elif " key" in text:
        what = "to a key that it uses"
    else:
        what = "to a command that one of its scripts runs"
    return StoreForbidden(f"Redis gives the program's user no right {what}")
