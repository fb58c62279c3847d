"""Which way requests go to a control plane: straight, or through a proxy that the environment names. No I/O."""

import ssl
from collections.abc import Mapping
from urllib.request import getproxies

import httpx2

from tailplane.client.direct import IDLE_CONNECTION_S, MOST_IDLE, DirectHttp
from tailplane.client.exchange import Http
from tailplane.client.options import ClientOptions
from tailplane.client.proxied import ProxiedHttp
from tailplane.protocol.urls import is_loopback


def is_exposed(url: str) -> bool:
    """Return whether what is sent there goes in plain text over a network."""
    parsed = httpx2.URL(url)
    return parsed.scheme == "http" and not is_loopback(parsed.host)


def http_to(url: str, options: ClientOptions, headers: Mapping[str, str]) -> Http:
    """Return the way to the control plane at `url`, for the running event loop.

    Args:
        url: the control plane's.
        options: timeouts.
        headers: sent with every request.
    Raises:
        httpx2.LocalProtocolError: a header has a name that is none.
    """
    parsed = httpx2.URL(url)
    # Loading the system's certificates blocks the loop for 0.15 s: not where nothing is encrypted.
    tls = httpx2.create_ssl_context() if parsed.scheme == "https" else None
    # A proxy of the environment has another loopback than this machine.
    if not is_loopback(parsed.host) and not getproxies().keys().isdisjoint({"http", "https", "all"}):
        client = _client(headers, tls)
        # httpx2 has the last word: NO_PROXY is read in a dozen ways, and this one is promised. Not a public name, but
        # there is none that says it, and mypy and the tests watch over this one.
        if client._transport_for_url(parsed) is not client._transport:
            return ProxiedHttp(client, url, options)
    return DirectHttp(parsed, options, headers, tls)


def _client(headers: Mapping[str, str], tls: ssl.SSLContext | None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        headers=headers,
        verify=True if tls is None else tls,
        # Each stream holds a connection for as long as it is read: a bound here would be a bound of streams.
        limits=httpx2.Limits(max_keepalive_connections=MOST_IDLE, keepalive_expiry=IDLE_CONNECTION_S),
    )
