"""What a workflow shares with the other tasks of its session: `ctx.session_state`.

A few small values under keys, each with a version that counts how often it was set. What is set stays: neither another
attempt nor a rewind takes it back. So a task that may run again says which version it has seen: `set` with a version
happens once, and a second attempt that finds it done goes on from there.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tailplane.broker import Broker, SessionRef
from tailplane.broker.session_state import pack_value
from tailplane.protocol import versioned
from tailplane.protocol.errors import SessionNotFound, StoreForbidden, StoreUnavailable
from tailplane.protocol.ids import SessionId
from tailplane.protocol.versioned import Versioned
from tailplane.workers.bridge import Bridge
from tailplane.workers.patience import patiently

T = TypeVar("T")

# Seconds for which a call waits for a store that is away. A failover takes ten to twenty.
PATIENCE = 30.0


class SessionState:
    """The state of one task's session. Its methods are awaited on any loop; what they wait for has a deadline.

    A sync workflow, which has no loop, calls them by `asyncio.run(ctx.session_state.get("key"))`.
    """

    def __init__(self, broker: Broker, bridge: Bridge, tenant: str, session_id: str | None) -> None:
        self._states = broker.states
        self._bridge = bridge
        self._ref = None if session_id is None else SessionRef(SessionId(session_id), tenant)

    async def get(self, key: str) -> Versioned:
        """Return a value with its version; None with version 0 where nothing was set.

        Raises:
            SessionNotFound: the task belongs to no session.
            InvalidRequest: `key` is not 1-128 of letters, digits, `_`, `.`, `:` and `-`.
            StoreUnavailable: Redis was away for `PATIENCE` seconds.
        """
        ref = self._session()
        return await self._ask(lambda: self._states.get(ref, key))

    async def set(self, key: str, value: object, *, version: int | None = None) -> int:
        """Set a value, and return its new version.

        Args:
            value: anything that msgpack carries; a model is read back as a dict.
            version: the version that it must have now, 0: it must not be there; None: whatever it has.
        Raises:
            StateConflict: it has another version: somebody came between, or this task before.
            TooLarge: the value is over 64 KiB, or the session has 100 keys.
            Unserialisable: msgpack can't carry it.
            SessionNotFound, InvalidRequest, StoreUnavailable: as `get`. After the last one it may have been set.
        """
        ref, packed = self._session(), pack_value(value)
        # One for all tries: what was done, and its reply lost, is not done again.
        call = os.urandom(8).hex()
        return await self._ask(lambda: self._states.set(ref, key, packed, version, call))

    async def update(self, key: str, change: Callable[[Any], Any]) -> Versioned:
        """Set a value to what `change` makes of it, and return that; nobody's write in between is lost.

        Args:
            change: is given the value, None where nothing was set, and returns the next one, or a coroutine that does.
                It is called again where somebody came between: it should do nothing else.
        Raises:
            StateConflict: somebody came between each time.
            What `get`, `set` and `change` raise.
        """

        async def write(value: Any, version: int) -> int:
            return await self.set(key, value, version=version)

        return await versioned.update(lambda: self.get(key), write, change, asyncio.sleep)

    def _session(self) -> SessionRef:
        if self._ref is None:
            raise SessionNotFound(
                "the task belongs to no session, and so it shares no state",
                hint="start it with `session.run_workflow(...)`, or `tailplane run --session SESSION_ID`: "
                "`tailplane sessions open` makes one",
            )
        return self._ref

    async def _ask(self, work: Callable[[], Awaitable[T]]) -> T:
        return await self._bridge.call(lambda: _for_a_while(work))


async def _for_a_while(work: Callable[[], Awaitable[T]]) -> T:
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + PATIENCE

    def noticed(error: StoreUnavailable) -> None:
        if isinstance(error, StoreForbidden) or clock() >= give_up_at:
            raise error

    return await patiently(work, noticed)
