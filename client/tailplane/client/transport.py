"""HTTP to the control plane: requests that are repeated where that is safe and useful, and the opening of streams.

Every request here may be repeated: GET and DELETE by their nature, cancel because a second one finds the task ended,
and what creates something because it bears an Idempotency-Key. One connection pool, made at the first request, belongs
to the event loop of that request. Reading streams, and resuming them, is `reader`'s.
"""

import asyncio
import ipaddress
import json
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx2

from tailplane.client.backoff import Backoff
from tailplane.client.options import ClientOptions
from tailplane.client.outage import Outage
from tailplane.client.problems import RETRIED_STATUSES, error_of
from tailplane.protocol import codec
from tailplane.protocol.errors import TailplaneError, Unavailable
from tailplane.protocol.frames import MSGPACK_TYPE

logger = logging.getLogger("tailplane.client")

_MSGPACK = "application/msgpack"
# Shorter than the 5 s after which uvicorn closes an idle connection: or requests are sent into a closing one.
_IDLE_CONNECTION_S = 4.0
# A wrong scheme or a header that can't be sent is as wrong the second time.
NOT_MENDED = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer: its HTTP status and its value."""

    status: int
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one request may take.

    Attributes:
        retry_for: for how long it is repeated; None: for ever.
        hold: how long the control plane holds the answer back on purpose.
    """

    retry_for: timedelta | None
    hold: timedelta = timedelta(0)


def path(*parts: str) -> str:
    """Return an API path of these parts; what callers pass in can't climb out of its part."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Transport:
    """The HTTP side of one client."""

    def __init__(self, url: str, options: ClientOptions, headers: Mapping[str, str] | None = None) -> None:
        """Keep the address; nothing is opened yet.

        Args:
            url: the control plane's; may have a path.
            options: timeouts and retry times.
            headers: sent with every request, such as an Authorization.
        Raises:
            ValueError: `url` is not one of http or https.
        """
        parsed = httpx2.URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{url!r} is not the URL of a control plane; one looks like http://127.0.0.1:8420")
        self.url = url
        self.options = options
        self.outage = Outage(url)
        self._parsed = parsed
        self._headers = dict(headers or {})
        self._opened: httpx2.AsyncClient | None = None
        self._closed = False

    async def request(
        self,
        method: str,
        where: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        key: str | None = None,
        patience: Patience | None = None,
    ) -> Answer:
        """Send a request until it is answered, and return the answer.

        Args:
            method: GET, POST or DELETE.
            where: a path, see `path`.
            params: the query.
            body: sent as msgpack unless None.
            key: the Idempotency-Key; without one only what may be done twice must be asked.
            patience: default: the options' `retry_for`.
        Raises:
            ConnectionLost: no answer came in time; its text has the last reason, and a note how to mend it.
            TailplaneError: the control plane said no; the class says what. Unavailable only after the last repetition.
            Unserialisable: msgpack can't carry `body`.
        """
        patience = patience or Patience(retry_for=self.options.retry_for)
        request = self._http.build_request(
            method,
            self.url + where,
            params=params,
            # Packed once: a repetition under the same key must be the same request, byte for byte.
            content=None if body is None else codec.pack(body),
            headers=self._request_headers(body is not None, key),
            timeout=self._timeout((self.options.answer_timeout + patience.hold).total_seconds()),
        )
        backoff = Backoff(self.options.reconnect.base, self.options.reconnect.cap)
        clock = asyncio.get_running_loop().time
        give_up_at = None if patience.retry_for is None else clock() + patience.retry_for.total_seconds()
        while True:
            unreached: Exception | None = None
            try:
                response = await self._http.send(request)
            except NOT_MENDED:
                raise
            except (httpx2.TransportError, OSError) as error:
                unreached = error
                trouble: TailplaneError = self.outage.connection_lost(error)
                delay = backoff.next_delay()
            else:
                self.outage.answered()
                if response.is_success:
                    return _answer(response)
                trouble = error_of(response.status_code, response.headers, response.content, str(request.url))
                if response.status_code not in RETRIED_STATUSES:
                    raise trouble
                delay = backoff.next_delay() + (trouble.retry_after if isinstance(trouble, Unavailable) else 0.0)
            if give_up_at is not None and clock() + delay > give_up_at:
                raise trouble
            if unreached is not None:
                self.outage.failed(unreached, patience.retry_for)
            logger.debug("%s %s again in %.3f s: %s", method, where, delay, trouble)
            await asyncio.sleep(delay)

    def stream(
        self, where: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[httpx2.Response]:
        """Open a stream of msgpack frames; one try, and no read timeout: the reader minds the silence."""
        # identity: the bytes are read raw, and a proxy that compresses would also hold events back.
        wanted = {"Accept": MSGPACK_TYPE, "Accept-Encoding": "identity"} | dict(headers)
        return self._http.stream("GET", self.url + where, params=params, headers=wanted, timeout=self._timeout(None))

    async def aclose(self) -> None:
        """Close all connections; no request can follow."""
        self._closed = True
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def _http(self) -> httpx2.AsyncClient:
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> httpx2.AsyncClient:
        host = self._parsed.host
        loopback = is_loopback(host)
        pattern = f"all://[{host}]" if ":" in host else f"all://{host}"
        return httpx2.AsyncClient(
            headers=self._headers,
            # A proxy of the environment has another loopback than this machine.
            mounts={pattern: None} if loopback else None,
            # Loading the system's certificates blocks the loop for 0.15 s, for nothing where nothing is encrypted.
            verify=not (loopback and self._parsed.scheme == "http"),
            # Each stream holds a connection for as long as it is read: a bound here would be a bound of streams.
            limits=httpx2.Limits(max_keepalive_connections=20, keepalive_expiry=_IDLE_CONNECTION_S),
        )

    def _request_headers(self, has_body: bool, key: str | None) -> dict[str, str]:
        headers = {"Accept": _MSGPACK}
        if has_body:
            headers["Content-Type"] = _MSGPACK
        if key is not None:
            headers["Idempotency-Key"] = key
        return headers

    def _timeout(self, read_s: float | None) -> httpx2.Timeout:
        options = self.options
        return httpx2.Timeout(
            connect=options.connect_timeout.total_seconds(),
            read=read_s,
            write=options.answer_timeout.total_seconds(),
            pool=options.answer_timeout.total_seconds(),
        )


def content_type(response: httpx2.Response) -> str:
    """Return the media type of an answer without its parameters; empty where it has none."""
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _answer(response: httpx2.Response) -> Answer:
    kind = content_type(response)
    try:
        match kind:
            case "application/msgpack":
                return Answer(response.status_code, codec.unpack(response.content))
            case "application/json":
                return Answer(response.status_code, json.loads(response.content))
            case _ if not response.content:
                return Answer(response.status_code, None)
    except (TailplaneError, ValueError) as error:
        raise TailplaneError(f"{response.url} gave an answer that can't be decoded: {error}") from None
    raise TailplaneError(
        f"{response.url} answered with {kind or 'an unnamed type'}",
        hint="the answer does not come from a Tailplane control plane; check the URL and the proxies on the way",
    )
