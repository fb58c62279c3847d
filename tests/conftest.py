"""Fixtures for all tests: the loop, and a real Redis that starts in a tenth of a second."""

import signal
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from redis.asyncio import Redis

from tailplane.broker import Broker, Shards, connect, connect_cluster, scripts
from tailplane.deploy.embedded import EmbeddedServer

from .lossy_proxy import LossyProxy
from .proxy import serving
from .redis_cluster import RedisCluster

# The same examples in each run, however slow the machine: a failure is a change of the code.
settings.register_profile("tailplane", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("tailplane")


def pytest_configure() -> None:
    """Let Ctrl-C work here and in the programs that are tested, also where tests run in a shell's background."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


RETENTION = timedelta(hours=1)
START_WITHIN = timedelta(minutes=30)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run async tests and fixtures on the loop that the programs use."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """The embedded server that tests share; each has a deployment of its own on it."""
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """The key prefix of this test's deployment."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def redis(server: EmbeddedServer) -> AsyncIterator[Redis]:
    """A client of the shared server."""
    client = connect(server.url, Redis)
    yield client
    await client.aclose(close_connection_pool=True)


@pytest.fixture
def broker(redis: Redis, prefix: str) -> Broker:
    """The stores of this test's deployment."""
    return Broker.over(redis, prefix=prefix, retention=RETENTION, start_within=START_WITHIN)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Three shards with a replica each, which tests share; who changes where slots are puts them back."""
    with RedisCluster() as running:
        yield running


@pytest.fixture
async def shards(redis_cluster: RedisCluster) -> AsyncIterator[Shards]:
    """The shards of the shared cluster."""
    shards = connect_cluster(redis_cluster.url)
    yield shards
    await shards.aclose()


@pytest.fixture
async def sharded_broker(server: EmbeddedServer, shards: Shards, prefix: str) -> AsyncIterator[Broker]:
    """The stores of this test's deployment: the queue on the shared server, streams on the shared cluster."""
    client = connect(server.url, Redis)
    yield Broker.over(client, prefix=prefix, retention=RETENTION, start_within=START_WITHIN, shards=shards)
    await client.aclose(close_connection_pool=True)


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[LossyProxy]:
    """A way to the shared server that loses replies when told to."""
    async with serving(LossyProxy(server.port)) as proxy:
        yield proxy


@pytest.fixture
def lose_next_reply(proxy: LossyProxy) -> Callable[[], None]:
    """Let the proxy lose the reply to the next command of `lossy_broker`, which Redis carries out."""
    return proxy.lose_next_reply


@pytest.fixture
async def lossy_broker(proxy: LossyProxy, prefix: str) -> AsyncIterator[Broker]:
    """The stores of this test's deployment, through the proxy; connections stand and scripts are known."""
    client = connect(f"redis://127.0.0.1:{proxy.port}/0", Redis)
    broker = Broker.over(client, prefix=prefix, retention=RETENTION, start_within=START_WITHIN)
    await broker.log.wire.run("PING")
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            # Or the reply that a test loses may be that the server does not know it, and nothing was done.
            await client.script_load(script.text)
    yield broker
    await client.aclose(close_connection_pool=True)
