"""Durable waits: for a message, from whoever sends it, for as long as it takes.

While an attempt waits it holds a slot of its worker. Where its whole code waits, and has for longer than the worker's
bound, the task is parked: the attempt ends, the slot is free, and the message that comes begins another attempt on any
worker, which is given all that had finished before.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from tailplane.broker.deliveries import CHILD_ENDED
from tailplane.broker.memory import Message
from tailplane.protocol.events import PlatformType
from tailplane.workers.arrivals import Arrivals
from tailplane.workers.branches import Branch
from tailplane.workers.journal import Call, Journal

log = structlog.get_logger("tailplane.workers")

# What `wait_for_event` waits for: a model, a name, or anything.
Wanted = type[BaseModel] | str | None
_ANYTHING = "any"


class Waits:
    """The waits of one attempt.

    Args:
        park_after: how long its code may wait before it is parked.
        park: parks it; see `Ways`.
    """

    def __init__(
        self, journal: Journal, arrivals: Arrivals, park_after: timedelta, park: Callable[[float | None, int], None]
    ) -> None:
        self._journal = journal
        self._arrivals = arrivals
        self._park_after = park_after.total_seconds()
        self._park = park
        self._deadlines: list[float | None] = []
        self._look: asyncio.TimerHandle | None = None

    async def wait_for(self, wanted: Wanted, timeout: float | None) -> Any:
        """Return what was sent: the first message of the wanted type that no other wait got.

        Raises:
            TimeoutError: none came in time.
            WorkflowChanged: an earlier attempt has done something else here.
        """
        name = _name_of(wanted)
        until = None if timeout is None else self._journal.now() + timeout
        call = self._journal.call("wait", name, until=until)
        record = call.record
        if record.has_finished:
            if not record.message:
                raise _too_late(name)
            # It fitted when it was got; the model may have changed since.
            return _read(self._arrivals[record.message], wanted)
        while True:
            try:
                message = await self._take(call, wanted)
            except TimeoutError:
                await self._journal.finish(call, PlatformType.STEP_FINISHED, {"timed_out": True}, message=0)
                raise _too_late(name) from None
            said = {"number": message.number, "type": message.type}
            try:
                value = _read(message, wanted)
            except ValidationError as error:
                first = error.errors(include_input=False)[0]
                log.warning("a message does not fit what is waited for", wanted=name, number=message.number)
                said["error"] = f"it does not fit {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
                await self._journal.refuse(message.number, said)
                continue
            await self._journal.finish(call, PlatformType.RECEIVED, said, message=message.number)
            return value

    async def after(self, number: int, within: float | None = None) -> Message:
        """Return the first message behind `number`: for engines, which keep a journal of what they got.

        Args:
            within: for how many seconds at the most the task is parked meanwhile.
        """
        branch = self._journal.branch()
        with self.waiting(branch, None if within is None else self._journal.now() + within):
            return await self._arrivals.after(number)

    async def _take(self, call: Call, wanted: Wanted) -> Message:
        until = call.record.until

        def left() -> float | None:
            return None if until is None else until - self._journal.now()

        def fits(message: Message) -> bool:
            return message.type != CHILD_ENDED if wanted is None else message.type == call.record.name

        with self.waiting(call.branch, until):
            return await self._arrivals.take(fits, left)

    @contextmanager
    def waiting(self, branch: Branch, until: float | None) -> Iterator[None]:
        """Let the task be parked while a block waits, if all else of its code does, too."""
        loop = asyncio.get_running_loop()
        # Only what is certain to be the branch's one thing to do: other code would be cut off in the middle, again and
        # again, and never come to its end.
        if branch.owner is not asyncio.current_task() or "~" in branch.path:
            yield
            return
        branch.waits_since = loop.time()
        self._deadlines.append(until)
        self._look_later(self._park_after)
        try:
            yield
        finally:
            branch.waits_since = None
            self._deadlines.remove(until)
            if not self._deadlines and self._look is not None:
                self._look.cancel()
                self._look = None

    def _look_later(self, seconds: float) -> None:
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(seconds, self._consider)

    def _consider(self) -> None:
        """Park the task if all of its code has waited for long enough; else look again."""
        self._look = None
        since = list(self._journal.main.waits())
        starts = [start for start in since if start is not None]
        if not starts:
            return
        left = max(starts) + self._park_after - asyncio.get_running_loop().time()
        if len(starts) < len(since):
            self._look_later(self._park_after)
        elif left > 0.001:
            self._look_later(left)
        else:
            until = min((until for until in self._deadlines if until is not None), default=None)
            self._park(until, self._arrivals.seen)


def _name_of(wanted: Wanted) -> str:
    match wanted:
        case None:
            return _ANYTHING
        case str():
            return wanted
        case type() if issubclass(wanted, BaseModel):
            return wanted.__name__
        case _:
            raise TypeError(f"wait for a pydantic model, a name or None, not for {wanted!r}")


def _read(message: Message, wanted: Wanted) -> Any:
    if wanted is None or isinstance(wanted, str):
        return message.data
    return wanted.model_validate(message.data, strict=False, by_alias=True, by_name=True)


def _too_late(name: str) -> TimeoutError:
    return TimeoutError(f"no {name} came in time")
