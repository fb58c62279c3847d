"""HTTP to the control plane: requests that are repeated where that is safe and useful, and the opening of streams.

Every request here may be repeated: GET and DELETE by their nature, cancel because a second one finds the task ended,
requeue because it finds the task of the first, and what else creates or sets something because it bears an
Idempotency-Key.
The connections belong to the event loop of the first request. Reading streams, and resuming them, is `reader`'s.
"""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx2

from tailplane.client.backoff import Backoff
from tailplane.client.credentials import Credentials, authorization
from tailplane.client.exchange import Answer, Http, OpenAnswer, Request, media_type
from tailplane.client.options import ClientOptions
from tailplane.client.outage import Outage
from tailplane.client.problems import RETRIED_STATUSES, error_of
from tailplane.client.route import http_to, is_exposed
from tailplane.client.tracing import trace_headers
from tailplane.protocol import codec
from tailplane.protocol.errors import ConnectionLost, TailplaneError, Unauthenticated, Unavailable
from tailplane.protocol.frames import MSGPACK_TYPE
from tailplane.protocol.urls import mask_url

logger = logging.getLogger("tailplane.client")

_MSGPACK = "application/msgpack"
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
# A wrong scheme or a header that can't be sent is as wrong the second time.
NOT_MENDED = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)


@dataclass(frozen=True, slots=True)
class Reply:
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
    return "/v1/" + "/".join([_quoted(part) for part in parts])


class Transport:
    """The HTTP side of one client.

    Attributes:
        url: the control plane's.
        options: timeouts and retry times.
        credentials: what signs requests, where `headers` do not.
    """

    def __init__(
        self,
        url: str,
        options: ClientOptions,
        headers: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Keep the address; nothing is opened yet.

        Args:
            url: the control plane's; may have a path.
            options: timeouts and retry times.
            headers: sent with every request, such as an Authorization; their names in lower case.
            credentials: what signs requests instead; None: nothing does. A credential that goes in plain text to
                another machine is warned of.
        Raises:
            ValueError: `url` is not one of http or https.
        """
        if not _may_be_reached(url):
            raise ValueError(
                f"{mask_url(url)!r} is not the URL of a control plane; one looks like http://127.0.0.1:8420"
            )
        self.url = url
        # For messages: a password stays out of them.
        self.shown_url = mask_url(url)
        self.options = options
        self.credentials = credentials or Credentials()
        self.outage = Outage(self.shown_url)
        self._headers = dict(headers or {})
        if ("authorization" in self._headers or self.credentials.has_source) and is_exposed(url):
            # No error: inside a cluster, where others mind the wire, plain http is what there is.
            logger.warning("%s is not https: who is on the way can read the credential", self.shown_url)
        self._opened: Http | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
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
    ) -> Reply:
        """Send a request until it is answered, and return the answer.

        Args:
            method: GET, POST, PUT or DELETE.
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
        headers = {"accept": _MSGPACK, **trace_headers()}
        if body is not None:
            headers["content-type"] = _MSGPACK
        if key is not None:
            headers["idempotency-key"] = key
        request = Request(
            method=method,
            target=_target(where, params),
            headers=headers,
            # Packed once: a repetition under the same key must be the same request, byte for byte.
            body=None if body is None else codec.pack(body),
            answer_s=(self.options.answer_timeout + patience.hold).total_seconds(),
        )
        backoff: Backoff | None = None
        clock = asyncio.get_running_loop().time
        give_up_at = None if patience.retry_for is None else clock() + patience.retry_for.total_seconds()
        credential: str | None = None
        while True:
            unreached: Exception | None = None
            asked_to_wait_s = 0.0
            try:
                credential = await self.credentials.current()
                if credential is not None:
                    request.headers = headers | authorization(credential)
                answer = await self._http.send(request)
            except NOT_MENDED:
                raise
            except ConnectionLost as error:
                # To where credentials come from.
                trouble: TailplaneError = error
            except (httpx2.TransportError, OSError) as error:
                unreached = error
                trouble = self.outage.connection_lost(error)
            else:
                self.outage.answered()
                if answer.status != httpx2.codes.UNAUTHORIZED:
                    self.credentials.accepted(credential)
                if answer.is_success:
                    return _decoded(answer, self.shown_url + request.target)
                trouble = error_of(answer.status, answer.headers, answer.content, self.shown_url + request.target)
                left = await self._renewed(trouble, credential)
                if left is None:
                    continue
                trouble = left
                if answer.status not in RETRIED_STATUSES and not isinstance(trouble, ConnectionLost):
                    raise trouble
                if isinstance(trouble, Unavailable):
                    asked_to_wait_s = trouble.retry_after
            backoff = backoff or Backoff(self.options.reconnect.base, self.options.reconnect.cap)
            delay = asked_to_wait_s + backoff.next_delay()
            if give_up_at is not None and clock() + delay > give_up_at:
                raise trouble
            if unreached is not None:
                self.outage.failed(unreached, patience.retry_for)
            logger.debug("%s %s again in %.3f s: %s", method, where, delay, trouble)
            await asyncio.sleep(delay)

    def stream(
        self, where: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[OpenAnswer]:
        """Open a stream of msgpack frames; one try, and no read timeout: the reader minds the silence."""
        # identity: the bytes are read raw, and a proxy that compresses would also hold events back.
        wanted = {"accept": MSGPACK_TYPE, "accept-encoding": "identity", **headers}
        return self._http.open(Request(method="GET", target=_target(where, params), headers=wanted))

    async def _renewed(self, refusal: TailplaneError, credential: str | None) -> TailplaneError | None:
        """Return what is left of a refusal: nothing where another credential has been fetched."""
        if not isinstance(refusal, Unauthenticated):
            return refusal
        try:
            return None if await self.credentials.renew(credential) else refusal
        except ConnectionLost as error:
            return error

    async def aclose(self) -> None:
        """Close all connections; no request can follow."""
        self._closed = True
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def _http(self) -> Http:
        if self._closed:
            raise RuntimeError("the client is closed")
        loop = asyncio.get_running_loop()
        if self._opened is None or self._loop is not loop:
            if self._loop is not None and self._loop.is_running():
                raise RuntimeError("a client belongs to one event loop: make another for this one, or use SyncClient")
            # What was opened on a loop that has ended ends with it.
            self._opened, self._loop = http_to(self.url, self.options, self._headers), loop
        return self._opened


def _may_be_reached(url: str) -> bool:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        # Its own words may show a piece of a password that was taken for the port.
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _target(where: str, params: Mapping[str, str] | None) -> str:
    return f"{where}?{'&'.join([f'{name}={_quoted(value)}' for name, value in params.items()])}" if params else where


def _quoted(part: str) -> str:
    # Nearly all are ids and numbers, which need none, and looking is cheaper than quoting.
    return part if _PLAIN.fullmatch(part) else quote(part, safe="")


def _decoded(answer: Answer, url: str) -> Reply:
    kind = media_type(answer.headers)
    try:
        match kind:
            case "application/msgpack":
                return Reply(answer.status, codec.unpack(answer.content))
            case "application/json":
                return Reply(answer.status, json.loads(answer.content))
            case _ if not answer.content:
                return Reply(answer.status, None)
    except (TailplaneError, ValueError) as error:
        raise TailplaneError(f"{url} gave an answer that can't be decoded: {error}") from None
    raise TailplaneError(
        f"{url} answered with {kind or 'an unnamed type'}",
        hint="the answer does not come from a Tailplane control plane; check the URL and the proxies on the way",
    )
