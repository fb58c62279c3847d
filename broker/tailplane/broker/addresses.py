"""Where servers listen, and URLs that name several of them: sentinels, or nodes of a cluster. No I/O.

What is wrong with a URL is told without a piece of it: its password may be anywhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from redis.asyncio.connection import parse_url

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,@\[\]]+)(?::(\d{1,5}))?")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Form:
    """What URLs of a kind look like.

    Attributes:
        text: for those whose URL looks otherwise.
        named: what each of the hosts is.
        port: where they listen, where the URL does not say.
    """

    text: str
    named: str
    port: int

    def malformed(self, what: str) -> ValueError:
        """Return what to raise for a URL with that fault."""
        return ValueError(f"{what}; the form is {self.text}; @ : , / ? and # in a password must be percent-encoded")


@dataclass(frozen=True, slots=True)
class ManyHosts:
    """The pieces of a URL that names several hosts.

    Attributes:
        hosts: as they stand there, see `addresses`.
        path: what follows them, without the first slash.
        options: redis-py's, of the user and the query: `username`, `password` ...
        is_encrypted: whether the scheme asks for TLS.
    """

    hosts: str = field(repr=False)
    path: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    is_encrypted: bool

    @classmethod
    def parse(cls, url: str) -> "ManyHosts":
        """Return the pieces of `url`.

        Raises:
            ValueError: an option behind the ? has no such value.
        """
        scheme, _, rest = url.partition("://")
        location, _, query = rest.partition("?")
        authority, _, path = location.partition("/")
        userinfo, _, hosts = authority.rpartition("@")
        username, _, password = userinfo.partition(":")
        said: dict[str, Any] = {"username": unquote(username), "password": unquote(password)}
        said |= parse_url(f"redis:///?{query}")
        return cls(
            hosts=hosts,
            path=unquote(path),
            options={name: value for name, value in said.items() if value != ""},
            is_encrypted=scheme.startswith("rediss"),
        )

    def addresses(self, form: Form) -> list[Address]:
        """Return where the hosts listen.

        Raises:
            ValueError: one of them is malformed.
        """
        return [_parse_host(host, number, form) for number, host in enumerate(self.hosts.split(","), 1)]


def _parse_host(text: str, number: int, form: Form) -> Address:
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[2] or form.port) < 65536:
        raise form.malformed(f"{form.named} {number} is no host[:port]")
    return Address(match[1].strip("[]"), int(match[2] or form.port))
