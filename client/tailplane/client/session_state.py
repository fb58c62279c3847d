"""What the tasks of a session share, as their caller sees it: `session.state`."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from tailplane.client.link import Link
from tailplane.client.models import StateValue, StateValues, parse
from tailplane.client.transport import path
from tailplane.protocol import versioned
from tailplane.protocol.versioned import Versioned


class SessionState:
    """A few small values under keys, each with a version that counts how often it was set."""

    def __init__(self, link: Link, session_id: str) -> None:
        """Look at the state of a session."""
        self._link = link
        self._session_id = session_id

    def __repr__(self) -> str:
        return f"SessionState({self._session_id!r})"

    async def all(self) -> dict[str, Versioned]:
        """Return all values, by their keys.

        Raises:
            SessionNotFound: there is no such session any more.
        """
        answer = await self._link.transport.request("GET", path("sessions", self._session_id, "state"))
        state = parse(StateValues, answer.value).state
        return {key: Versioned(each.value, each.version) for key, each in state.items()}

    async def get(self, key: str) -> Versioned:
        """Return a value with its version; None with version 0 where nothing was set.

        Raises:
            InvalidRequest: `key` is not 1-128 of letters, digits, `_`, `.`, `:` and `-`.
            SessionNotFound: there is no such session any more.
        """
        answer = await self._link.transport.request("GET", self._path(key))
        found = parse(StateValue, answer.value)
        return Versioned(found.value, found.version)

    async def set(self, key: str, value: object, *, version: int | None = None) -> int:
        """Set a value, and return its new version.

        Args:
            value: a pydantic model, or anything that msgpack carries.
            version: the version that it must have now, 0: it must not be there; None: whatever it has.
        Raises:
            StateConflict: it has another version: somebody came between.
            TooLarge: the value is over 64 KiB, or the session has 100 keys.
            InvalidRequest, SessionNotFound: as `get`.
        """
        body = {"value": value} | ({} if version is None else {"version": version})
        # The key lets a repetition after a lost answer find its work done.
        answer = await self._link.transport.request("PUT", self._path(key), body=body, key=uuid.uuid4().hex)
        return parse(StateValue, answer.value).version

    async def update(self, key: str, change: Callable[[Any], Any]) -> Versioned:
        """Set a value to what `change` makes of it, and return that; nobody's write in between is lost.

        Args:
            change: is given the value, None where nothing was set, and returns the next one, or a coroutine that does.
                It is called again where somebody came between.
        Raises:
            StateConflict: somebody came between each time.
            What `get`, `set` and `change` raise.
        """

        async def write(value: Any, version: int) -> int:
            return await self.set(key, value, version=version)

        return await versioned.update(lambda: self.get(key), write, change, asyncio.sleep)

    def _path(self, key: str) -> str:
        return path("sessions", self._session_id, "state", key)
