"""The load: submits the orders, follows each task in two ways, cancels some, and reads all of it again in the end."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from tailplane.client import (
    Client,
    ClientOptions,
    Rewind,
    State,
    Task,
    TaskCancelled,
    TaskError,
    TaskFailed,
)
from tailplane.protocol.errors import Unauthenticated
from tests.chaos.history import Outcome, Run, TaskHistory
from tests.chaos.orders import Order

T = TypeVar("T")

_CLIENTS = 4
# A busy machine takes its time to start a control plane again.
PATIENT = ClientOptions(retry_for=timedelta(minutes=5))
# Seconds, for one task.
_READ = 30.0


class Clients(Protocol):
    """Where the load comes from."""

    def of(self, order: Order) -> Client:
        """Return the client through which an order, and what follows of it, goes at present."""


class Unsigned:
    """The clients where nobody signs in."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients

    def of(self, order: Order) -> Client:
        return self._clients[order.index % len(self._clients)]


@contextlib.asynccontextmanager
async def open_clients(url: str) -> AsyncIterator[Clients]:
    """Open the clients that the load comes from, where nobody signs in."""
    async with contextlib.AsyncExitStack() as stack:
        yield Unsigned([await stack.enter_async_context(Client(url, options=PATIENT)) for _ in range(_CLIENTS)])


class Load:
    """The tasks of a run.

    Attributes:
        histories: of the tasks that were begun, in that order.
        ended: how many have ended.
        events: how many events the readers of whole streams have seen.
    """

    def __init__(self, clients: Clients) -> None:
        """Submit through these clients."""
        self._clients = clients
        self.histories: list[TaskHistory] = []
        self.ended = 0
        self.events = 0
        self._patience: set[asyncio.Timeout] = set()
        self._is_given_up = False

    def give_up(self) -> None:
        """Wait no longer for what has not ended; its history says so."""
        self._is_given_up = True
        for patience in self._patience:
            patience.reschedule(0.0)

    async def run(self, orders: Sequence[Order], seconds: float, at_once: int) -> None:
        """Carry out all orders, begun evenly within `seconds`, not more than `at_once` at a time."""
        places = asyncio.Semaphore(at_once)
        clock = asyncio.get_running_loop().time
        began = clock()
        async with asyncio.TaskGroup() as group:
            for order in orders:
                await asyncio.sleep(max(0.0, began + order.index * seconds / len(orders) - clock()))
                await places.acquire()
                history = TaskHistory(order)
                self.histories.append(history)
                group.create_task(self._carry_out(history)).add_done_callback(lambda _: places.release())

    async def _carry_out(self, history: TaskHistory) -> None:
        try:
            async with asyncio.timeout_at(0.0 if self._is_given_up else None) as patience:
                self._patience.add(patience)
                try:
                    await self._follow_through(history)
                finally:
                    self._patience.discard(patience)
        except TimeoutError:
            history.troubles.append(f"it has not ended in time; {len(history.live)} events, {history.live[-3:]}")
        except ExceptionGroup as errors:
            history.troubles += [f"{type(error).__name__}: {error}" for error in errors.exceptions]
        except Exception as error:
            history.troubles.append(f"{type(error).__name__}: {error}")
        self.ended += 1

    async def _follow_through(self, history: TaskHistory) -> None:
        order = history.order
        history.task_id = (await self._ask(order, partial(_submit, order))).task_id
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(history))
            group.create_task(self._look(history))
            group.create_task(self._cancel(history))

    async def _follow(self, history: TaskHistory) -> None:
        await self._ask(history.order, partial(self._read_on, history))
        history.outcome = await self._ask(history.order, lambda client: _outcome(client.task(history.task_id)))

    async def _read_on(self, history: TaskHistory, client: Client) -> None:
        """Read the whole stream, from where the reader before stood."""
        async for event in client.task(history.task_id).events(history.live[-1].seq if history.live else "start"):
            history.live.append(event)
            self.events += 1

    async def _look(self, history: TaskHistory) -> None:
        await asyncio.sleep(history.order.view_after)
        await self._ask(history.order, lambda client: _look(client.task(history.task_id), history))

    async def _cancel(self, history: TaskHistory) -> None:
        if history.order.cancel_after is not None:
            await asyncio.sleep(history.order.cancel_after)
            cancelled = await self._ask(history.order, lambda client: client.task(history.task_id).cancel("chaos"))
            history.cancelled = cancelled.state

    async def _ask(self, order: Order, call: Callable[[Client], Awaitable[T]]) -> T:
        """Return what a call comes to; made again by whoever has a good key, where its own was ended meanwhile.

        Raises:
            Unauthenticated: the key of the moment is refused.
        """
        while True:
            client = self._clients.of(order)
            try:
                return await call(client)
            except Unauthenticated:
                if client is self._clients.of(order):
                    raise


async def complete(clients: Clients, histories: Sequence[TaskHistory], ledger: Path) -> None:
    """Add what only shows when all has ended: the runs in the ledger; streams and records, read anew.

    Args:
        clients: such as have seen nothing of the tasks.
        histories: of the load.
        ledger: where the workers' runs left their lines.
    """
    ran = _runs(ledger)
    for history in histories:
        history.runs = ran[history.task_id]
        if not history.task_id or history.troubles:
            continue
        try:
            async with asyncio.timeout(_READ):
                await _read_again(clients.of(history.order), history)
        except Exception as error:
            history.troubles.append(f"it can't be read again: {type(error).__name__}: {error}")


async def _read_again(client: Client, history: TaskHistory) -> None:
    task = client.task(history.task_id)
    history.again = [event async for event in task.events()]
    history.kept = []
    try:
        async for datum in task.results(on_rewind="drop"):
            history.kept.append(datum)
    except TaskError:
        pass
    history.record = await task.status()


def _runs(ledger: Path) -> dict[str, list[Run]]:
    """Return what the ledger has of each task."""
    by_task: dict[str, list[Run]] = defaultdict(list)
    for line in ledger.read_text().splitlines() if ledger.exists() else ():
        run = Run(**json.loads(line))
        by_task[run.task_id].append(run)
    return by_task


def _submit(order: Order, client: Client) -> Awaitable[Task]:
    # The key makes one task of all tries.
    return client.run_workflow(order.workflow, order.script, idempotency_key=order.key)


async def _look(task: Task, history: TaskHistory) -> None:
    """Look at the task as its order says."""
    order = history.order
    shown: list[object] = []
    try:
        match order.view:
            case "collect":
                history.shown = await task.collect()
                return
            case "text":
                history.shown = [await task.text()]
                return
            case "snapshots":
                async for snapshot in task.snapshots():
                    shown = snapshot
            case "drop":
                async for datum in task.results(on_rewind="drop"):
                    shown.append(datum)
            case "notice":
                async for datum in task.results(on_rewind="notice"):
                    # All attempts are rewound to their beginning.
                    shown = [] if isinstance(datum, Rewind) else [*shown, datum]
    except TaskError:
        if order.view in ("collect", "text"):
            return
    history.shown = shown


async def _outcome(task: Task) -> Outcome:
    try:
        return Outcome(State.SUCCEEDED, await task.result())
    except TaskFailed as error:
        return Outcome(State.FAILED, error.error_code)
    except TaskCancelled:
        return Outcome(State.CANCELLED)
