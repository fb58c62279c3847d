"""One HTTP request and its answer, as `transport` sees them, whichever way they go: `direct` or `proxied`."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from tailplane.client.endings import Ending
from tailplane.client.intake import Intake


@dataclass(slots=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        method: GET, POST, PUT or DELETE.
        target: path and query, from the root of the client's URL.
        headers: names in lower case; those that all requests have are added on the way.
        body: what is sent, with its length.
        answer_s: how long the answer's head may take, and each piece of its body; None: the caller minds the time.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None
    answer_s: float | None = None


@dataclass(slots=True)
class Answer:
    """An answer as a whole; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether it says yes."""
        return 200 <= self.status < 300


class OpenAnswer(Protocol):
    """An answer whose head has come and whose body is still to come. Its body is taken in one way, once."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        ...

    async def read(self) -> bytes:
        """Return the whole body."""
        ...

    async def follow(self, intake: Intake) -> Ending:
        """Give the body to `intake` as it comes, and return how that ended."""
        ...


class Http(Protocol):
    """A way to the control plane; its errors are httpx2's TransportErrors."""

    async def send(self, request: Request) -> Answer:
        """Send a request, once, and return the answer."""
        ...

    def open(self, request: Request) -> AbstractAsyncContextManager[OpenAnswer]:
        """Send a request, once, and hold the answer open for the length of a block."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def media_type(headers: Mapping[str, str]) -> str:
    """Return the media type of an answer without its parameters; empty where it has none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()
