"""What a workflow is given as its first argument: its way to say something while it runs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from tailplane.workers.emitter import Emitter


@dataclass(frozen=True, slots=True)
class Context:
    """One attempt of a task, as its workflow sees it.

    Attributes:
        task_id: the task's id.
        attempt: which attempt this is, from 1.
        workflow: the workflow's name.
        session_id: the session's id, or None.
        metadata: what the submitter attached.
    """

    task_id: str
    attempt: int
    workflow: str
    session_id: str | None
    metadata: Mapping[str, str]
    _emitter: Emitter
    _blocks: bool = False

    def write_event_to_stream(self, data: object, *, channel: str | None = None) -> None:
        """Append an event to the task's stream. Not awaited; works from any thread; never blocks on I/O.

        Args:
            data: str, numbers, bytes, dict, list, None, aware datetimes, or a pydantic model.
            channel: a label of the author's, such as "stdout", that readers can tell events apart by.
        Raises:
            Unserialisable: `data` holds something else; nothing was written.
            TooLarge: the event is larger than the deployment allows.
            BufferFull: the workflow writes faster than Redis takes it; `emit` would wait instead. A workflow with
                `on_full="block"` waits here too, where it runs in a thread.
            TaskLost: this attempt is over (cancelled, timed out, taken over): stop.
        """
        if self._blocks and not self._emitter.has_room and not _runs_a_loop():
            self._emitter.block_for_room()
        self._emitter.write(data, channel)

    async def emit(self, data: object, *, channel: str | None = None) -> None:
        """Append an event to the task's stream, after waiting for room in the buffer.

        Raises: as `write_event_to_stream`, but BufferFull only for what other threads wrote meanwhile.
        """
        if not self._emitter.has_room:
            await self._emitter.wait_for_room()
        self._emitter.write(data, channel)

    def emit_from_thread(self, data: object, *, channel: str | None = None) -> None:
        """Append an event from a thread that runs no event loop, after waiting for room in the buffer."""
        if not self._emitter.has_room:
            self._emitter.block_for_room()
        self._emitter.write(data, channel)


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
