"""From the bytes of one connection to the events of a session's tasks. No I/O. See `decoder`."""

from typing import Any

from tailplane.client.decoder import FrameDecoder
from tailplane.client.endings import Ended
from tailplane.client.place import Place
from tailplane.client.runs import Batch, Part, Run
from tailplane.protocol.events import Event, Kind, PlatformType
from tailplane.protocol.ids import MAX_SEQ

_GONE = PlatformType.GONE


class SessionDecoder(FrameDecoder):
    """Decodes frames that say which task each is of; seqs are dense within a task. It gives `Part`s."""

    def __init__(self, place: Place, max_frame_bytes: int) -> None:
        """Go on at `place`, and move it."""
        super().__init__(None, max_frame_bytes)
        self._place = place

    def _take_entry(self, frame: list[Any], batches: list[Batch]) -> None:
        *entry, number = frame
        place = self._place
        task_id, self.cursor = place.task_id(number), place.seq(number)
        found: list[Batch] = []
        super()._take_entry(entry, found)
        events = [event for batch in found for event in (batch.events() if isinstance(batch, Run) else batch)]
        if not events:
            return
        if isinstance(self.ending, Ended):
            # Of the task, not of the session.
            self.ending = None
        place.move(number, events[-1].seq, is_end=is_last(events[-1]))
        batches.append(Part(number, task_id, events))

    def _take_notice(self, frame: Any, batches: list[Batch]) -> None:
        super()._take_notice(frame, batches)
        if "task" in frame:
            number, task_id = frame["task"]
            # They become a part of the reader's cursor, which is to be sent again.
            if type(number) is not int or not 0 < number <= MAX_SEQ or not isinstance(task_id, str) or not task_id:
                raise TypeError("a task is announced that is none")
            self._place.join(number, task_id)
            # Without events: who consumes them must know of it, too.
            batches.append(Part(number, task_id, ()))
        elif "ended" in frame:
            self.ending = Ended()


def is_last(event: Event) -> bool:
    """Whether nothing follows of the event's task: it has ended, or it is gone."""
    return event.kind == Kind.PLATFORM and (event.is_terminal or event.type == _GONE)
