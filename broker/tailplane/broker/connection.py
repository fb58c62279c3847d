"""How Tailplane's servers talk to Redis: connection settings, deadlines, and Redis' errors turned into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
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
# What a server says that can't take writes right now, where redis-py has no class for it.
_NOT_NOW = ("BUSY ", "CLUSTERDOWN ", "MASTERDOWN ", "MISCONF ", "NOREPLICAS ", "TRYAGAIN ")

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
    return client


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


def raise_if_away(error: Exception) -> None:
    """Raise `error`, the reply to one command of a pipeline, if it says that Redis is away rather than unwilling."""
    if isinstance(error, _AWAY) or _is_not_now(error):
        raise error


def _is_not_now(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith(_NOT_NOW)


def mask_url(url: str) -> str:
    """Return `url` without its password, for logs and errors."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
