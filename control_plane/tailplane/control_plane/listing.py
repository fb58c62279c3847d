"""Lists of tasks, and of those that are dead letters: newest first, filtered, in pages. Reads ids and then the records.

A page ends at the id where the next one goes on, so that tasks which come in meanwhile neither shift nor repeat
anything. A filter that matches little may give a short page, even an empty one, with a `next_page`: one call reads a
bounded number of records.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tailplane.broker import Broker, TaskRecord, TaskRef
from tailplane.broker.records import SUMMARY_FIELDS
from tailplane.protocol.ids import SessionId, TaskId
from tailplane.protocol.states import State

# How many ids one call looks at, and how many at a time.
MAX_SCANNED = 2000
CHUNK = 200


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks are wanted; None: any."""

    state: State | None = None
    workflow: str | None = None
    session: SessionId | None = None
    schedule: str | None = None

    def takes(self, record: TaskRecord) -> bool:
        """Whether a task passes; its session is seen to by the index."""
        return (
            self.state in (None, record.state)
            and self.workflow in (None, record.workflow)
            and self.schedule in (None, record.schedule)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Tasks, and the id to go on from; None: these were the last."""

    tasks: list[TaskRecord]
    next: TaskId | None


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a list's tasks come from.

    Attributes:
        ids: gives ids older than another, newest first, so many.
        forget: takes out ids whose records are gone.
        fields: what of the records is wanted.
    """

    ids: Callable[[TaskId | None, int], Awaitable[list[TaskId]]]
    forget: Callable[[list[TaskId]], Awaitable[None]]
    fields: Sequence[str]


async def list_tasks(broker: Broker, tenant: str, wanted: Filter, *, limit: int, before: TaskId | None) -> Page:
    """Return up to `limit` tasks older than `before`.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    catalogue, session = broker.catalogue, wanted.session
    source = _Source(
        ids=lambda before, limit: catalogue.task_ids(tenant, session, before, limit),
        forget=lambda gone: catalogue.note_gone(tenant, gone, session),
        fields=SUMMARY_FIELDS,
    )
    return await _page(broker, tenant, source, wanted, limit, before)


async def list_dead_letters(broker: Broker, tenant: str, wanted: Filter, *, limit: int, before: TaskId | None) -> Page:
    """Return up to `limit` dead letters older than `before`, with their errors.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    catalogue = broker.catalogue
    source = _Source(
        ids=lambda before, limit: catalogue.dead_letter_ids(tenant, before, limit),
        forget=lambda gone: catalogue.forget_dead(tenant, gone),
        fields=(*SUMMARY_FIELDS, "error"),
    )
    return await _page(broker, tenant, source, wanted, limit, before)


async def _page(
    broker: Broker, tenant: str, source: _Source, wanted: Filter, limit: int, before: TaskId | None
) -> Page:
    found: list[TaskRecord] = []
    for _ in range(0, MAX_SCANNED, CHUNK):
        ids = await source.ids(before, CHUNK)
        for task_id, record in zip(ids, await _records(broker, tenant, source, ids), strict=True):
            if len(found) == limit:
                return Page(found, before)
            before = task_id
            if record and wanted.takes(record):
                found.append(record)
        if len(ids) < CHUNK:
            return Page(found, None)
    return Page(found, before)


async def _records(broker: Broker, tenant: str, source: _Source, ids: Sequence[TaskId]) -> list[TaskRecord | None]:
    if not ids:
        return []
    records = await broker.tasks.read_many([TaskRef(task_id, tenant) for task_id in ids], source.fields)
    gone = [task_id for task_id, record in zip(ids, records, strict=True) if record is None]
    if gone:
        await source.forget(gone)
    return records
