"""A task's own state: values by name that survive its attempts, for workflows that go on from where they were.

It is for code that looks at what was done and goes on behind it. Code that is made of steps needs none: it runs again
from its beginning, and is given what its steps returned.
"""

from collections.abc import Coroutine
from typing import Any

from tailplane.broker.memory import VALUE
from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidRequest, TooLarge
from tailplane.workers.commits import Fields
from tailplane.workers.journal import Journal
from tailplane.workers.threads import require_a_loop

# Characters of a name.
_LONGEST_NAME = 200
# How many names a task may use.
MOST_NAMES = 1000


class TaskState:
    """The state of one task. What was set stays set, whatever becomes of the attempt; a rewind does not undo it.

    Args:
        most: bytes of msgpack that a value may have.
    """

    def __init__(self, journal: Journal, most: int) -> None:
        self._journal = journal
        self._most = most

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, as it was set last; `default` where it never was."""
        packed = self._journal.memory.state.get(name)
        return default if packed is None else codec.unpack(packed)

    def set(self, name: str, value: Any) -> Coroutine[Any, Any, None]:
        """Set a value, and return when Redis has it.

        Raises:
            Unserialisable, TooLarge, InvalidRequest: it can't be kept.
            TaskLost: the attempt is over.
        """
        require_a_loop("ctx.state.set")
        return self._commit({name: value}, seals=False)

    def checkpoint(self, **values: Any) -> Coroutine[Any, Any, None]:
        """Set values, and let all that the workflow has written so far stand, in one step.

        A later attempt takes nothing back of what stands, and should not write it again: it goes on from the values.

        Raises:
            InvalidRequest: the workflow has durable steps: what they wrote stands by itself.
            Unserialisable, TooLarge, TaskLost: as `set`.
        """
        require_a_loop("ctx.state.checkpoint")
        if self._journal.memory.steps:
            raise InvalidRequest(
                "a workflow with steps needs no checkpoint: it runs again from its beginning, and what its steps wrote "
                "stands", hint="use ctx.state.set for the value",
            )  # fmt: skip
        return self._commit(values, seals=True)

    async def _commit(self, values: dict[str, Any], *, seals: bool) -> None:
        state = self._journal.memory.state
        fields: Fields = []
        packed_values: dict[str, bytes] = {}
        for name, value in values.items():
            if not 0 < len(name) <= _LONGEST_NAME:
                raise InvalidRequest(f"a name in a task's state has 1 to {_LONGEST_NAME} characters, not {len(name)}")
            packed = packed_values[name] = codec.pack(value)
            if len(packed) > self._most:
                raise TooLarge(f"the value of {name!r} has {len(packed)} bytes, {self._most} are allowed")
            fields += [VALUE + name, packed]
        if len(state.keys() | values.keys()) > MOST_NAMES:
            raise TooLarge(f"a task's state has {MOST_NAMES} names at the most")
        await self._journal.remember(fields, {"state": sorted(values)}, seals=seals)
        state.update(packed_values)
