"""The streams of a session's tasks as one, as callers see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailplane.client.link import Link
from tailplane.client.place import Place
from tailplane.client.runs import Batch, Part
from tailplane.client.session_decoder import is_last
from tailplane.client.source import SessionSource
from tailplane.client.stream import Stream
from tailplane.protocol.events import Event
from tailplane.protocol.session_cursor import SessionCursor


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """An event, and the task that it is of.

    Attributes:
        task_id: the task.
        event: the envelope; its seq counts within the task.
    """

    task_id: str
    event: Event

    def as_dict(self) -> Mapping[str, Any]:
        """Return the envelope's JSON form, with the task."""
        return {"task_id": self.task_id, **self.event.as_dict()}


class SessionStream(Stream[SessionEvent]):
    """What all tasks of a session say, the platform's events too; those that join it meanwhile come by themselves.

    The order within a task is its stream's; between tasks it is that of arrival, and promises nothing. It ends by
    itself when the session is closed and its tasks have been seen to their ends. How a task ended is told by its last
    event, `task.succeeded`, `task.failed` ..., and raised by nobody; `task.gone` is the last of one that was removed.
    """

    def __init__(self, link: Link, session_id: str, start: str) -> None:
        """Prepare to read."""
        self._source = SessionSource(session_id, start)
        super().__init__(link, self._source)
        self.session_id = session_id
        self._place: Place | None = None
        self._part = Part(0, "", ())

    @property
    def cursor(self) -> str:
        """Where the events taken out so far end: a later stream of the session may start there. One opaque word."""
        place = self._place.cursor if self._place is not None else self._source.first
        if place is None:
            return "now"
        return str(place) if place.top else "start"

    def _begin(self, batch: Batch) -> None:
        assert isinstance(batch, Part)
        if self._place is None:
            self._place = Place(self._source.first or SessionCursor())
        if not batch:
            self._place.join(batch.number, batch.task_id)
        self._part = batch
        super()._begin(batch)

    def _show(self, event: Event) -> SessionEvent:
        part, place = self._part, self._place
        assert place is not None
        place.move(part.number, event.seq, is_end=is_last(event))
        self._link.models.restore(event)
        return SessionEvent(part.task_id, event)
