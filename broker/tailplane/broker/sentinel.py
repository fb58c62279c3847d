"""Redis behind Sentinel: the URL that names the sentinels, and a pool whose connections find the primary through them.

Called by `connection.connect`. redis-py brings the clients of the sentinels and the connections. What is added here:
every connection makes sure that it has reached a primary; a search passes over whatever is wrong with a sentinel, and
has a deadline as a whole; and once one connection has learned who the primary is, all that go elsewhere are closed,
since one that only listens would stay with a former primary and hear nothing any more.
"""

import asyncio
import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.exceptions import ConnectionError, NoPermissionError, RedisError, TimeoutError
from redis.utils import str_if_bytes

from tailplane.broker.addresses import Address, Form, ManyHosts

SCHEMES = ("redis+sentinel", "rediss+sentinel")
# Seconds: for one sentinel to be reached, and to answer; for the whole search.
SENTINEL_DEADLINE = 1.0
SEARCH_DEADLINE = 5.0

_FORM = Form(
    "redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/database], "
    "and ?sentinel_password= behind it where the sentinels want one of their own",
    "sentinel",
    26379,
)
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What a URL says, of the form that redisvl, docket and Prefect use too.

    Attributes:
        sentinels: hosts and ports.
        service: what the sentinels call the primary and its replicas.
        options: redis-py's, for connections to the primary: `db`, `username`, `password` ...
        sentinel_options: likewise, for connections to the sentinels.
        is_encrypted: whether all of them use TLS.
    """

    sentinels: Sequence[Address]
    service: str
    options: Mapping[str, Any] = field(repr=False)
    sentinel_options: Mapping[str, Any] = field(repr=False)
    is_encrypted: bool

    @classmethod
    def parse(cls, url: str) -> "SentinelUrl":
        """Return what `url` says.

        Raises:
            ValueError: it does not have the form; the message holds nothing of the URL, whose password may be anywhere.
        """
        pieces = ManyHosts.parse(url)
        service, _, database = pieces.path.rstrip("/").partition("/")
        if not service:
            raise _FORM.malformed("the service's name is missing")
        if not re.fullmatch(r"\d*", database):
            raise _FORM.malformed("what follows the service's name must be the number of a database")
        found = {"db": int(database or 0), **pieces.options}
        options = {name: value for name, value in found.items() if not name.startswith("sentinel_")}
        own = {name: value for name, value in found.items() if name.startswith("sentinel_")}
        if not own.keys() <= set(_SENTINEL_OPTIONS):
            raise _FORM.malformed(f"of the sentinels' own options there are {' and '.join(_SENTINEL_OPTIONS)}")
        # One private authority stands for all.
        encryption = {name: value for name, value in options.items() if name.startswith("ssl_")}
        return cls(
            sentinels=pieces.addresses(_FORM),
            service=service,
            options=options,
            sentinel_options={name.removeprefix("sentinel_"): value for name, value in own.items()} | encryption,
            is_encrypted=pieces.is_encrypted,
        )


class NoPrimary(ConnectionError):
    """The sentinels name no primary, or what they name is none."""


class Sentinels(Sentinel):
    """The sentinels of a deployment. The one that answered last is asked first."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary; the method's name is redis-py's.

        Raises:
            NoPrimary: none of the sentinels knows one that is up; each is named with what is wrong with it.
        """
        # redis-py's own search loses sentinels from its list when two go on at once, and stops at a refusal.
        wrong = []
        for sentinel in list(self.sentinels):
            place = "{host}:{port}".format(**sentinel.connection_pool.connection_kwargs)
            try:
                state = (await sentinel.sentinel_masters()).get(service_name)
            except (RedisError, OSError, RuntimeError) as error:
                # RuntimeError: uvloop's, for a connection that the other side has closed.
                wrong.append(f"{place}: {type(error).__name__}")
                continue
            if state is None:
                wrong.append(f"{place} does not know the service")
            elif not self.check_master_state(state, service_name):
                wrong.append(f"{place} takes the primary for down")
            else:
                self.sentinels.sort(key=lambda other: other is not sentinel)
                return state["ip"], state["port"]
        raise NoPrimary(f"no sentinel names a primary of {service_name!r}: {', '.join(wrong)}")


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary of the moment, whoever that is each time when it connects."""

    async def connect_to(self, address: tuple[str, int]) -> None:
        """Connect, and make sure that a primary is there: a sentinel may not know yet that it is none any more."""
        await super().connect_to(address)  # type: ignore[no-untyped-call]
        try:
            await self.send_command("ROLE", check_health=False)
            (role, *_) = await self.read_response()
        except NoPermissionError:
            # A user who may not ask has to believe the sentinel; a write tells in the end.
            return
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        if str_if_bytes(role) != "master":
            await self.disconnect(nowait=True)
            raise NoPrimary(f"{address[0]}:{address[1]} is no primary, whatever the sentinel says")
        if not self.is_connected:
            # Another connection has learned meanwhile of another primary, and the reply was on its way.
            raise ConnectionError("the sentinels name another primary by now")


class EncryptedPrimaryConnection(PrimaryConnection, SSLConnection):
    """The same over TLS."""


class PrimaryPool(SentinelConnectionPool):
    """The connections of one client to the primary, and those to the sentinels."""

    sentinel_manager: Sentinels

    async def get_master_address(self) -> tuple[str, int]:
        """Ask the sentinels where the primary is, and close all connections that go elsewhere.

        Raises:
            NoPrimary: they name none.
            TimeoutError: they did not answer in time.
        """
        try:
            async with asyncio.timeout(SEARCH_DEADLINE):
                address = await self.sentinel_manager.discover_master(self.service_name)
        except builtins.TimeoutError:
            raise TimeoutError("the sentinels do not answer in time") from None
        self.master_address = address
        for connection in [*self._available_connections, *self._in_use_connections]:
            assert isinstance(connection, Connection)
            if connection.is_connected and (connection.host, connection.port) != address:
                await connection.disconnect(nowait=True)
        return address

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections: all, those to the sentinels among them, or only the idle ones."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


def primary_pool(url: str, mix_in: type, **options: Any) -> PrimaryPool:
    """Return a pool for a URL of one of `SCHEMES`; it connects when first used.

    Args:
        mix_in: what its connections are besides, those to the sentinels too.
        options: redis-py's, for connections to the primary; what the URL says overrules them.

    Raises:
        ValueError: the URL is malformed.
    """
    where = SentinelUrl.parse(url)
    reached = PrimaryConnection if not where.is_encrypted else EncryptedPrimaryConnection
    sentinels = Sentinels(  # type: ignore[no-untyped-call]
        where.sentinels,
        sentinel_kwargs={
            "socket_timeout": SENTINEL_DEADLINE,
            "socket_connect_timeout": SENTINEL_DEADLINE,
            "retry": options.get("retry"),
            "ssl": where.is_encrypted,
            **where.sentinel_options,
        },
    )
    for sentinel in sentinels.sentinels:
        pool = sentinel.connection_pool
        pool.connection_class = mixed(mix_in, pool.connection_class)
    options = {**options, **where.options, "connection_class": mixed(mix_in, reached)}
    return PrimaryPool(where.service, sentinels, **options)  # type: ignore[no-untyped-call]


def mixed(mix_in: type, kind: type) -> type[AbstractConnection]:
    """Return the kind of connection that is both."""
    return type(kind.__name__, (mix_in, kind), {})
