"""What signs a client's requests where the application gives no key but a source: something that fetches credentials.

The source is asked at the first request, shortly before a stream token expires, and when the control plane refuses what
it gave before; never by two requests at a time. What is refused before it was accepted once is not asked for again:
whoever gives out bad credentials would be asked for ever.
"""

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx2

from tailplane.protocol.credentials import TOKEN_PREFIX, SignedToken
from tailplane.protocol.errors import ConnectionLost, Unauthenticated, Unavailable

logger = logging.getLogger("tailplane.client")

CredentialSource = Callable[[], str | Awaitable[str]]
"""Returns an API key or a stream token. A coroutine function runs on the client's event loop, any other in a thread."""

# How long before its end a token is renewed: a fifth of its life, and so many seconds at the most.
_EARLY_S = 30.0
_EARLY_PART = 0.2
# Seconds until the next try where that fails while the token is still good.
_PAUSE_S = 1.0
# A source that can't be reached is asked again, as a control plane is; anything else that it raises is the caller's.
_PASSING = (OSError, httpx2.TransportError, Unavailable, ConnectionLost)


class Credentials:
    """The credential of one client, as it is now."""

    def __init__(self, source: CredentialSource | None = None, patience: timedelta = timedelta(seconds=30)) -> None:
        """Ask for nothing yet.

        Args:
            source: gives credentials; None: requests are signed elsewhere, or not.
            patience: how long it may take.
        """
        self._source = source
        self._patience_s = patience.total_seconds()
        self._text: str | None = None
        self._renew_at = -math.inf
        self._was_accepted = False
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def has_source(self) -> bool:
        """Whether requests are signed here."""
        return self._source is not None

    async def current(self) -> str | None:
        """Return what signs a request; None: nothing here does.

        Raises:
            ConnectionLost: the source can't be reached now.
            Exception: whatever else it raises.
        """
        if self._source is None:
            return None
        if self._text is None:
            await self._fetch(None)
        elif time.time() >= self._renew_at:
            await self._renew_early(self._text)
        return self._text

    def accepted(self, text: str | None) -> None:
        """Note that the control plane took a credential."""
        if text is not None and text == self._text:
            self._was_accepted = True

    async def renew(self, refused: str | None) -> bool:
        """Fetch another credential than the one that was refused; return whether there is one.

        Raises:
            As `current`.
        """
        if refused is None:
            return False
        if refused == self._text:
            if not self._was_accepted:
                return False
            await self._fetch(refused)
        return refused != self._text

    async def _renew_early(self, text: str) -> None:
        # One asks; others go on with what is good for a while, and so does this one if nothing comes of it.
        self._renew_at = time.time() + _PAUSE_S
        try:
            await self._fetch(text)
        except Exception as error:
            logger.warning("the credential could not be renewed before its end: %s", type(error).__name__)

    async def _fetch(self, known: str | None) -> None:
        async with self._lock_here():
            if self._text != known:
                # Somebody else has fetched it meanwhile.
                return
            text = await self._ask()
            self._was_accepted &= text == self._text
            self._text, self._renew_at = text, _renewal(text)

    async def _ask(self) -> str:
        source = self._source
        assert source is not None
        try:
            async with asyncio.timeout(self._patience_s):
                given = source() if inspect.iscoroutinefunction(source) else await asyncio.to_thread(source)
                text = await given if inspect.isawaitable(given) else given
        except _PASSING as error:
            raise ConnectionLost(f"no credential could be fetched: {type(error).__name__}: {error}") from error
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise TypeError("the source of credentials has to return an API key or a stream token, as text")
        return text.strip()

    def _lock_here(self) -> asyncio.Lock:
        # A client may be used on another loop once the one before has ended.
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lock = loop, asyncio.Lock()
        return self._lock


def _renewal(text: str) -> float:
    """Return when a credential should be renewed, in seconds since the epoch; never where nobody can tell."""
    if not text.startswith(TOKEN_PREFIX):
        return math.inf
    try:
        expires_at = SignedToken.parse(text).claimed.expires_ms / 1000
    except Unauthenticated:
        return math.inf
    left = expires_at - time.time()
    # One that has expired by this clock shows that the clock is wrong: the control plane will say when it has.
    return expires_at - min(_EARLY_S, _EARLY_PART * left) if left > 0 else math.inf


def authorization(text: str) -> dict[str, str]:
    """Return the header that presents a credential."""
    return {"authorization": f"Bearer {text}"}
