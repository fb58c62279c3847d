"""The URL that names sentinels."""

import asyncio

import pytest
from redis.asyncio import Redis

from tailplane.broker import connect
from tailplane.broker.connection import check_url
from tailplane.broker.sentinel import NoPrimary, PrimaryPool, SentinelUrl
from tailplane.protocol.urls import mask_url


def test_the_whole_form_is_read() -> None:
    url = SentinelUrl.parse(
        "rediss+sentinel://app:p%40ss@one:1,[::1]:2,three/main/5"
        "?sentinel_username=watch&sentinel_password=s%26cret&ssl_ca_certs=/ca.pem&socket_timeout=9"
    )
    assert url.sentinels == [("one", 1), ("::1", 2), ("three", 26379)]
    assert (url.service, url.is_encrypted) == ("main", True)
    assert url.options == {
        "db": 5, "username": "app", "password": "p@ss", "ssl_ca_certs": "/ca.pem", "socket_timeout": 9.0
    }  # fmt: skip
    assert url.sentinel_options == {"username": "watch", "password": "s&cret", "ssl_ca_certs": "/ca.pem"}


def test_the_least_of_it_is_a_host_and_a_service() -> None:
    url = SentinelUrl.parse("redis+sentinel://one/main")
    assert (url.sentinels, url.service, url.is_encrypted) == ([("one", 26379)], "main", False)
    assert (url.options, url.sentinel_options) == ({"db": 0}, {})


def test_a_password_alone_is_the_default_user_s() -> None:
    assert SentinelUrl.parse("redis+sentinel://:secret@one/main").options == {"db": 0, "password": "secret"}


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis+sentinel://one,two", "service's name is missing"),
        ("redis+sentinel://one,two/", "service's name is missing"),
        ("redis+sentinel://one/main/zero", "number of a database"),
        ("redis+sentinel:///main", "sentinel 1 is no"),
        ("redis+sentinel://one,,three/main", "sentinel 2 is no"),
        ("redis+sentinel://one:0/main", "sentinel 1 is no"),
        ("redis+sentinel://one:99999/main", "sentinel 1 is no"),
        ("redis+sentinel://:hunter2/x@one/main", "percent-encoded"),
        ("redis+sentinel://:hunter2?x@one/main", "service's name is missing"),
        ("redis+sentinel://one/main?sentinel_pasword=hunter2", "sentinel_password"),
        ("redis+sentinel://one/main?socket_timeout=hunter2", "socket_timeout"),
        ("redis+sentinel://one/main?nonsense=hunter2", "options behind the ?"),
        ("redis://user:hunter2:6379/0", "percent-encoded"),
        ("redis://:hunter2/x@host:6379/0", "percent-encoded"),
        ("redis://host:6379?nonsense=hunter2", "options behind the ?"),
        ("http://hunter2", "redis+sentinel://"),
        ("hunter2", "redis://"),
    ],
)
def test_a_malformed_url_says_what_would_be_right_and_shows_nothing(url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.replace("?", r"\?").replace("+", r"\+")) as caught:
        check_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_url_says_nothing_of_its_passwords() -> None:
    url = "redis+sentinel://app:hunter2@one:1,two:2/main/0?sentinel_password=hunter3"
    assert "hunter" not in repr(SentinelUrl.parse(url))
    assert mask_url(url) == "redis+sentinel://***@one:1,two:2/main/0"
    assert "hunter" not in mask_url("redis+sentinel://one/main?sentinel_password=a@hunter2")


async def test_without_sentinels_the_store_is_away_and_nothing_secret_is_told() -> None:
    client = connect("redis+sentinel://:hunter2@127.0.0.1:1,127.0.0.1:2/main?sentinel_password=hunter3", Redis)
    pool = client.connection_pool
    assert isinstance(pool, PrimaryPool)
    with pytest.raises(NoPrimary) as caught:
        await client.ping()
    assert "127.0.0.1:1: ConnectionError, 127.0.0.1:2: ConnectionError" in str(caught.value)
    assert "hunter" not in f"{caught.value!r} {pool!r} {pool.sentinel_manager!r}"
    await client.aclose(close_connection_pool=True)


async def test_searches_at_the_same_time_lose_no_sentinel_from_the_list() -> None:
    client = connect("redis+sentinel://127.0.0.1:1,127.0.0.1:2,127.0.0.1:3/main", Redis)
    pool = client.connection_pool
    assert isinstance(pool, PrimaryPool)
    before = set(pool.sentinel_manager.sentinels)

    async def answer() -> dict[str, dict[str, object]]:
        await asyncio.sleep(0)
        up = {"is_master": True, "is_sdown": False, "is_odown": False, "num-other-sentinels": 0}
        return {"main": up | {"ip": "127.0.0.1", "port": 1}}

    last = pool.sentinel_manager.sentinels[2]
    last.sentinel_masters = answer
    assert set(await asyncio.gather(*(pool.get_master_address() for _ in range(5)))) == {("127.0.0.1", 1)}
    assert pool.sentinel_manager.sentinels[0] is last
    assert set(pool.sentinel_manager.sentinels) == before
    assert len(pool.sentinel_manager.sentinels) == 3
    await client.aclose(close_connection_pool=True)
