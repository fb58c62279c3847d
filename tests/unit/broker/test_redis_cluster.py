"""The URL that names the nodes of a cluster."""

import pytest

from tailplane.broker.addresses import Address
from tailplane.broker.redis_cluster import _parse, check_cluster_url
from tailplane.protocol.urls import mask_url


async def test_the_whole_form_is_read() -> None:
    seeds, dial = _parse("rediss+cluster://app:p%40ss@one:1,[::1]:2,three/0?ssl_ca_certs=/ca.pem&socket_timeout=9")
    assert seeds == [Address("one", 1), Address("::1", 2), Address("three", 6379)]
    connection = dial(Address("five", 5)).connection_pool.make_connection()
    assert type(connection).__name__ == "SSLConnection"
    assert (connection.host, connection.port, connection.username, connection.password) == ("five", 5, "app", "p@ss")
    assert connection.socket_timeout == 9.0


def test_the_least_of_it_is_a_host() -> None:
    assert check_cluster_url("redis+cluster://one") == "redis+cluster://one"


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis://hunter2", "redis+cluster://"),
        ("redis+sentinel://hunter2/main", "redis+cluster://"),
        ("redis+cluster://", "node 1 is no"),
        ("redis+cluster://one,,three", "node 2 is no"),
        ("redis+cluster://one:99999", "node 1 is no"),
        ("redis+cluster://one/1", "no databases"),
        ("redis+cluster://one?db=1", "no databases"),
        ("redis+cluster://one/main", "no databases"),
        ("redis+cluster://:hunter2/x@one", "percent-encoded"),
        ("redis+cluster://one?nonsense=hunter2", "options behind the ?"),
        ("redis+cluster://one?socket_timeout=hunter2", "socket_timeout"),
    ],
)
def test_a_malformed_url_says_what_would_be_right_and_shows_nothing(url: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.replace("?", r"\?").replace("+", r"\+")) as caught:
        check_cluster_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_url_says_nothing_of_its_password() -> None:
    assert mask_url("redis+cluster://app:hunter2@one:1,two:2") == "redis+cluster://***@one:1,two:2"
