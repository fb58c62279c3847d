"""HTTP to the control plane through a proxy of the environment: httpx2's business, which knows all kinds of them.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, the system's settings, proxies with passwords, CONNECT, SOCKS. It costs
ten times what `direct` does, and only those pay whose requests take that way.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import httpx2

from tailplane.client.endings import Ending, Lost
from tailplane.client.exchange import Answer, Request
from tailplane.client.intake import Intake
from tailplane.client.options import ClientOptions


class ProxiedHttp:
    """A client of httpx2, behind the face of `Http`."""

    def __init__(self, client: httpx2.AsyncClient, url: str, options: ClientOptions) -> None:
        """Send by `client`, which is closed with this, to what lies below `url`."""
        self._client = client
        self._url = url
        self._options = options

    async def send(self, request: Request) -> Answer:
        """Send a request, once, and return the answer."""
        response = await self._client.send(self._build(request))
        return Answer(response.status_code, response.headers, response.content)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator["ProxiedAnswer"]:
        """Send a request, once, and hold the answer open for the length of a block."""
        response = await self._client.send(self._build(request), stream=True)
        try:
            yield ProxiedAnswer(response)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _build(self, request: Request) -> httpx2.Request:
        options = self._options
        timeout = httpx2.Timeout(
            connect=options.connect_timeout.total_seconds(),
            read=request.answer_s,
            write=options.answer_timeout.total_seconds(),
            pool=options.answer_timeout.total_seconds(),
        )
        return self._client.build_request(
            request.method, self._url + request.target, content=request.body, headers=request.headers, timeout=timeout
        )


class ProxiedAnswer:
    """An answer whose body is still to come."""

    def __init__(self, response: httpx2.Response) -> None:
        """Hold `response`, whose opener closes it."""
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def read(self) -> bytes:
        """Return the whole body."""
        return await self._response.aread()

    async def follow(self, intake: Intake) -> Ending:
        """Give the body to `intake` as it comes, and return how that ended."""
        async with asyncio.TaskGroup() as group:
            pulling = group.create_task(self._pull(intake))
            ending = await intake.ended
            pulling.cancel()
        return ending

    async def _pull(self, intake: Intake) -> None:
        room = asyncio.Event()
        try:
            async with aclosing(self._response.aiter_raw()) as pieces:
                async for piece in pieces:
                    if intake.feed(piece):
                        intake.hold(room.set)
                        await room.wait()
                        room.clear()
        except (httpx2.TransportError, OSError) as error:
            intake.end(Lost(error))
        else:
            intake.end(Lost(EOFError("the response ended without a terminal event")))
