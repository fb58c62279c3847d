"""The children of a task that have not ended, as its record names them. No I/O; with the emitter's lock held.

With thousands of them that field is large: written at each end, they would cost as much as their number squared. So one
that has ended stays named until an eighth of them has: who looks after the children finds out that it has ended.
"""

from collections.abc import Iterable

from tailplane.broker.memory import CHILDREN, StepRecord
from tailplane.protocol import codec
from tailplane.workers.commits import Fields


class OpenChildren:
    """The ids of those that have not ended, in the order in which they began.

    Args:
        steps: what earlier attempts left.
    """

    def __init__(self, steps: Iterable[StepRecord]) -> None:
        self._open = dict.fromkeys(
            each.child for each in steps if each.child is not None and not each.has_finished and each.error is None
        )
        # How many the record names.
        self._named = len(self._open)

    @property
    def ids(self) -> list[str]:
        """All of them. Thread-safe."""
        return list(self._open)

    def begun(self, record: StepRecord) -> Fields:
        """Note that a call has begun; return what the record gets if it runs a child."""
        if record.child is None:
            return []
        self._open[record.child] = None
        return self._fields()

    def ended(self, record: StepRecord) -> Fields:
        """Note that a call has ended; return what the record gets, unless it may name its child for a while longer."""
        if record.child is None:
            return []
        self._open.pop(record.child, None)
        return self._fields() if self._named - len(self._open) > len(self._open) // 8 else []

    def _fields(self) -> Fields:
        self._named = len(self._open)
        return [CHILDREN, codec.pack(list(self._open), check=False)]
