"""Durable steps: code that runs once, however many attempts its task takes.

`await ctx.step(fetch, url)` runs `fetch(url)` and keeps what it returns, in one script with the last events that it
wrote. A later attempt is given the kept value: the step neither runs nor writes again. `@step` makes a function one
that is a step wherever a workflow awaits it.
"""

import asyncio
import functools
import hashlib
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tailplane.protocol import codec
from tailplane.protocol.errors import TaskLost, TooLarge, Unserialisable, WorkflowChanged
from tailplane.protocol.events import PlatformType
from tailplane.workers.branches import running
from tailplane.workers.declared import check_retries
from tailplane.workers.descriptions import describe
from tailplane.workers.journal import LONGEST_NAME, Call, Journal
from tailplane.workers.retries import delay_before_retry
from tailplane.workers.threads import in_thread
from tailplane.workers.values import keep, pack_error, restore, restore_error

_FINAL = (TaskLost, TooLarge, Unserialisable, WorkflowChanged)


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is run.

    Attributes:
        name: what it is called in the stream and in the task's memory; None: as its function.
        retries: how many more tries it gets, within the attempt, after one that raised.
        retry_delay: how long before the second try, as a timedelta or in seconds; doubled for each further one, at
            most a minute. Up to half of it is taken off at random.
        retry_on: the exceptions that are worth another try.
    """

    name: str | None = None
    retries: int = 0
    retry_delay: timedelta = timedelta(seconds=1)
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception

    def __post_init__(self) -> None:
        delay: Any = self.retry_delay
        if not isinstance(delay, timedelta | int | float):
            raise TypeError(f"retry_delay must be a timedelta, or a number of seconds, not {delay!r}")
        if not isinstance(delay, timedelta):
            # Seconds, as everywhere else.
            object.__setattr__(self, "retry_delay", timedelta(seconds=delay))
        check_retries(self.retries, self.retry_on)
        if self.retries < 0:
            raise ValueError(f"retries must be at least 0, not {self.retries}")
        if self.retry_delay < timedelta():
            raise ValueError(f"retry_delay must be at least 0, not {self.retry_delay}")
        if self.name is not None and not 0 < len(self.name) <= LONGEST_NAME:
            raise ValueError(f"a step's name has 1 to {LONGEST_NAME} characters, not {len(self.name)}")


class Steps:
    """Runs the steps of one attempt, on the workflows' loop.

    Args:
        pool: the threads for functions that are not async.
        most: bytes of msgpack that a result may have.
    """

    def __init__(self, journal: Journal, pool: Executor, most: int) -> None:
        self._journal = journal
        self._pool = pool
        self._most = most

    async def run(
        self, options: StepOptions, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Return what the function returned: now, or in the attempt that finished the step.

        Raises:
            WorkflowChanged: an earlier attempt has done something else here.
            Unserialisable, TooLarge: the result can't be kept.
            TaskLost: the attempt is over.
            Exception: what the function raises, after its last try.
        """
        name = options.name or _name_of(function)
        call = self._journal.call("step", name, digest=_digest(args, kwargs))
        if call.record.has_finished:
            return restore(call.record.value or b"\xc0", function, name)
        if failure := self._journal.failure_of(call):
            raise restore_error(failure)
        call.branch.parts = [call.inner]
        try:
            packed, value = await self._tries(call, options, functools.partial(function, *args, **kwargs))
        except asyncio.CancelledError:
            # It is to run again, unless it was a part of something that has failed.
            call.branch.below.append(call.inner)
            raise
        finally:
            call.branch.parts = []
        await self._journal.finish(call, PlatformType.STEP_FINISHED, value=packed)
        return value

    async def _tries(self, call: Call, options: StepOptions, work: "functools.partial[Any]") -> tuple[bytes, Any]:
        """Return what the function returned, as it is kept and as a later attempt would get it: this one must not go
        another way.
        """
        tried = 0
        while True:
            # Else the first of the asyncio tasks that it starts would pass for it, and that is not always the same one.
            call.inner.owner = asyncio.current_task()
            try:
                with running(call.inner):
                    value = await self._once(work)
                return keep(value, work.func, self._most, call.record.name)
            except Exception as error:
                # What is as wrong the second time, or is not the step's fault, gets no other try.
                delay = None if isinstance(error, _FINAL) else delay_before_retry(options, tried, error)
                if delay is None:
                    if not isinstance(error, TaskLost):
                        self._journal.note_failure(call, pack_error(error))
                    raise
                said = {key: value for key, value in describe(error).items() if key != "traceback"}
            self._journal.rewind(call, said, delay // timedelta(milliseconds=1))
            # None of its parts waits for a message now: the task must not be parked before the next try.
            call.branch.parts = []
            await asyncio.sleep(delay.total_seconds())
            tried += 1
            call.inner = call.part("/")
            self._journal.enter(call.inner)
            call.branch.parts = [call.inner]

    async def _once(self, work: "functools.partial[Any]") -> Any:
        if inspect.iscoroutinefunction(inspect.unwrap(work.func)):
            return await work()
        made = await in_thread(self._pool, work)
        # Such as a callable object whose call is async.
        return await made if inspect.isawaitable(made) else made


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return what tells the arguments of a step from others; None: they can't be told."""
    try:
        packed = codec.pack([list(args), [[name, kwargs[name]] for name in sorted(kwargs)]])
    except Unserialisable:
        return None
    return hashlib.sha256(packed).hexdigest()[:16]
