"""What a workflow of the load writes and returns: all of it follows from its input and the attempt. No I/O.

Workers write by it and the checks expect by it, so that an event that is lost, doubled or another attempt's shows.
"""

import zlib
from typing import Any

from pydantic import BaseModel, ConfigDict


class Script(BaseModel):
    """The input of every workflow of the load.

    Attributes:
        seed: what the numbers are made from.
        count: how many events an attempt writes.
        pause: seconds between two bursts of events.
        burst: how many events are written without a pause.
        failures: how many attempts, from the first one on, raise before their end.
        as_text: whether events are text, which `Task.text` puts together, or lists.
    """

    model_config = ConfigDict(frozen=True)

    seed: int
    count: int
    pause: float
    burst: int = 1
    failures: int = 0
    as_text: bool = False

    def datum(self, attempt: int, index: int) -> Any:
        """Return the event of an attempt, counted from 0. It tells which one it is; no two of a task are the same."""
        number = zlib.crc32(b"%d.%d.%d" % (self.seed, attempt, index))
        return f"{attempt}.{index}.{number};" if self.as_text else [attempt, index, number]

    def raises(self, attempt: int) -> bool:
        """Whether this attempt raises after its last event."""
        return attempt <= self.failures

    def length(self, attempt: int) -> int:
        """Return how many events the attempt writes before it ends or raises."""
        return 1 + zlib.crc32(b"%d.%d" % (self.seed, attempt)) % self.count if self.raises(attempt) else self.count

    def data(self, attempt: int) -> list[Any]:
        """Return all that an attempt writes, in order."""
        return [self.datum(attempt, index) for index in range(self.length(attempt))]

    def result(self, attempt: int) -> Any:
        """Return what the attempt returns."""
        return {"attempt": attempt, "check": zlib.crc32(b"%d.%d.result" % (self.seed, attempt))}
