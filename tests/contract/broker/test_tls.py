"""TLS to a real Redis that asks for certificates: who is refused, and by what."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis

from tailplane.broker import connect, store_errors
from tailplane.deploy.ports import HOST
from tailplane.protocol.errors import StoreUnavailable
from tests.guarded_server import GuardedServer, password_of, redis_with_tls


@pytest.fixture(scope="module")
def encrypted() -> Iterator[GuardedServer]:
    with GuardedServer(redis_with_tls(), is_encrypted=True) as server:
        yield server


@pytest.fixture(scope="module")
def misnamed() -> Iterator[GuardedServer]:
    """A server with the certificate of another one."""
    with GuardedServer(redis_with_tls(), is_encrypted=True, name="redis.example.com") as server:
        yield server


async def ping(url: str) -> Any:
    client = connect(url, Redis)
    try:
        with store_errors():
            return await client.ping()
    finally:
        await client.aclose(close_connection_pool=True)
        # What redis-py has let go of closes with a farewell of TLS, which must not meet a loop that is closed.
        await asyncio.sleep(0.2)


async def refusal(url: str) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await ping(url)
    said = f"{caught.value!r} {caught.value.__cause__!r}"
    assert password_of("worker") not in said
    assert "p%40ss" not in said
    return said


async def test_a_server_and_a_client_that_know_each_other_talk(encrypted: GuardedServer) -> None:
    assert await ping(encrypted.url("worker"))


async def test_a_certificate_of_another_name_is_refused_unless_names_do_not_matter(misnamed: GuardedServer) -> None:
    assert "certificate" in await refusal(misnamed.url("worker"))
    assert await ping(misnamed.url("worker", ssl_check_hostname="false"))
    assert await ping(misnamed.url("worker", ssl_cert_reqs="none"))


async def test_a_certificate_of_an_unknown_authority_is_refused(encrypted: GuardedServer, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    assert "certificate" in await refusal(encrypted.url("worker", ssl_ca_certs=str(tmp_path / "other.pem")))


async def test_a_client_without_a_certificate_is_refused_by_the_server(encrypted: GuardedServer) -> None:
    assert await refusal(f"rediss://{HOST}:{encrypted.port}/0?ssl_ca_certs={encrypted.dir / 'ca.pem'}")


async def test_without_tls_nobody_gets_through(encrypted: GuardedServer) -> None:
    assert await refusal(f"redis://{HOST}:{encrypted.port}/0")


async def test_a_wrong_password_is_told_without_it(encrypted: GuardedServer) -> None:
    said = await refusal(encrypted.url("worker").replace("worker%20", "wrong%20"))
    assert "wrong" not in said
