"""What `tailplane top` shows: one look at a deployment, and its picture. No I/O but what `look` asks."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tailplane.client import Client, FleetInfo, QueueInfo, TaskStatus
from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.progress import describe_age, describe_count
from tailplane.deploy.cli.tables import describe_place
from tailplane.protocol.states import State

# Tasks that are looked at, the newest ones: two pages of the API.
NEWEST = 100
# Seconds that count as lately.
LATELY = 60.0
# A queue that waits longer than this is shown in red, in seconds.
_OLD = 60.0


@dataclass(frozen=True, slots=True)
class Overview:
    """One look.

    Attributes:
        running: tasks that run now, of all workers.
        ended: how many of the newest tasks have ended within the last minute, by state.
        submitted_per_s: tasks a second over the last minute, from the newest tasks; over less where they are younger.
        at: when, in seconds since the epoch.
    """

    fleet: FleetInfo
    running: int
    ended: dict[str, int]
    submitted_per_s: float
    at: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as another program reads it."""
        return {
            **self.fleet.model_dump(),
            "running": self.running,
            "ended_lately": self.ended,
            "submitted_per_s": round(self.submitted_per_s, 2),
            "at": self.at,
        }


async def look(client: Client) -> Overview:
    """Ask the control plane.

    Raises: as the client's `fleet` and `tasks`.
    """
    fleet, newest = await client.fleet(), list[TaskStatus]()
    async for task in client.tasks():
        newest.append(task)
        if len(newest) == NEWEST:
            break
    return overview_of(fleet, newest, time.time())


def overview_of(fleet: FleetInfo, newest: Iterable[TaskStatus], now: float) -> Overview:
    """Return what the newest tasks and the fleet come to."""
    tasks = list(newest)
    ended = Counter(str(task.state) for task in tasks if task.ended_at is not None and now - task.ended_at <= LATELY)
    young = [task for task in tasks if now - task.created_at <= LATELY]
    # A full page of young tasks tells of less than a minute.
    span = max(now - young[-1].created_at, 0.001) if len(young) == len(tasks) >= NEWEST else LATELY
    return Overview(
        fleet=fleet,
        running=sum(worker.running for worker in fleet.workers),
        ended={str(state): ended[str(state)] for state in State if state.is_terminal},
        submitted_per_s=len(young) / span,
        at=now,
    )


def picture(seen: Overview, note: str = "") -> RenderableType:
    """Return one frame; `note` is what to say above it."""
    slots = sum(worker.concurrency for worker in seen.fleet.workers)
    waiting = sum(queue.depth for queue in seen.fleet.queues)
    ended = ", ".join(f"{count} {state}" for state, count in seen.ended.items() if count) or "none"
    head = [
        f"{time.strftime('%H:%M:%S', time.localtime(seen.at))}  {describe_count(len(seen.fleet.workers), 'worker')}  "
        f"{seen.running}/{slots} tasks run  {waiting} wait  {describe_count(seen.fleet.dead_letters, 'dead letter')}",
        f"submitted: {seen.submitted_per_s:.1f} tasks/s  ended in the last minute, of the newest {NEWEST}: {ended}",
    ]
    lines = [Text(line) for line in head]
    if note:
        lines.append(Text(terminal.printable(note), style="yellow"))
    return Group(*lines, Text(), _queues(seen.fleet.queues), Text(), _workers(seen))


def _queues(queues: Iterable[QueueInfo]) -> Table:
    rows = []
    # Those that wait first: on a small terminal the rest is below its edge.
    for queue in sorted(queues, key=lambda each: (-each.oldest_age_ms, -each.depth, each.workflow)):
        age = queue.oldest_age_ms / 1000
        oldest = Text(describe_age(age) if age else "", style="red" if age > _OLD else "")
        lacks = queue.depth > 0 and queue.workers == 0
        rows.append(
            [Text(terminal.printable(queue.workflow)), Text(str(queue.depth)), oldest,
             Text(str(queue.workers), style="red" if lacks else "")]
        )  # fmt: skip
    return _table(["workflow", "waiting", "oldest", "workers"], rows)


def _workers(seen: Overview) -> Table:
    rows = []
    for worker in sorted(seen.fleet.workers, key=lambda each: (-each.running, each.worker_id)):
        left = worker.lease_ms / 1000
        lease = Text(f"{left:.1f} s left") if left > 0 else Text("run out", style="red")
        where = terminal.printable(describe_place(worker))
        up = describe_age(max(0.0, seen.at - worker.started_at))
        rows.append(
            [Text(worker.worker_id), Text(where), Text(f"{worker.running}/{worker.concurrency}"), lease, Text(up),
             Text(terminal.printable(worker.version))]
        )  # fmt: skip
    return _table(["worker", "host:pid", "tasks", "lease", "up", "version"], rows)


def _table(titles: list[str], rows: list[list[Text]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(titles):
        width = max((cell_len(str(row[index])) for row in rows), default=0)
        table.add_column(title, min_width=max(width, cell_len(title)), no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
