"""Many tasks at once, each followed by a reader of its own in this process."""

import asyncio
import time
from typing import Any

from benchmarks.percentiles import median, spread_ms
from benchmarks.system import PAD, Client, Emit
from benchmarks.tally import Tally

# Submissions under way at once: as many as a server has in its queue of new connections.
_SUBMISSIONS = 100
_SETTLING_S = 1.0


class Crowd:
    """The tasks, and what their readers have seen."""

    def __init__(self, client: Client, tasks: int, rate: float, seconds: float, pad: int = PAD) -> None:
        self._client = client
        self._emit = Emit(count=max(1, round(rate * seconds)), rate=rate, pad=pad)
        self._members = [_Member(self, self._emit.count) for _ in range(tasks)]
        self._submissions = asyncio.Semaphore(_SUBMISSIONS)
        self.failed = 0
        self.first_failure = ""
        self.begun = 0
        self.all_begun_at = 0.0
        # By the clock of the latencies; infinite: not yet.
        self.first_end_at = float("inf")
        self.steady_since = float("inf")
        self.latencies: list[float] = []
        self.steady_latencies: list[float] = []

    async def run(self) -> None:
        """Submit all and read all to their ends."""
        async with asyncio.TaskGroup() as group:
            for member in self._members:
                group.create_task(self._follow(member))

    async def _follow(self, member: "_Member") -> None:
        try:
            async with self._submissions:
                task = await self._client.submit(self._emit)
            await self._client.each(task, member.note)
        except Exception as error:
            # One client that fails must not take the others along.
            self.failed += 1
            self.first_failure = self.first_failure or f"{type(error).__name__}: {error}"
            return
        member.has_ended = True
        self.first_end_at = min(self.first_end_at, time.monotonic())

    def note_begun(self, now: float) -> None:
        """Count a reader that has its first event; with the last of them, the steady time is near."""
        self.begun += 1
        if self.begun == len(self._members):
            self.all_begun_at = now
            # What gathered while all connected is read meanwhile.
            self.steady_since = now + _SETTLING_S

    @property
    def is_steady(self) -> bool:
        """Whether all read side by side, and nothing is left of the beginning."""
        return time.monotonic() > self.steady_since

    @property
    def one_has_ended(self) -> bool:
        """Whether the first task has come to its end."""
        return self.first_end_at < float("inf")

    @property
    def wanted(self) -> int:
        """How many events there will be in all."""
        return self._emit.count * len(self._members)

    @property
    def events(self) -> int:
        """How many have come."""
        return sum(member.count for member in self._members)

    @property
    def missing(self) -> int:
        """How many may still come."""
        return self.wanted - self.events - self.lost

    @property
    def lost(self) -> int:
        """How many were passed over, or had not come when their stream was at its end."""
        return sum(member.lost if member.has_ended else member.skipped for member in self._members)

    @property
    def doubled(self) -> int:
        """How many have come again."""
        return sum(member.doubled for member in self._members)

    @property
    def skipped(self) -> int:
        """How many did not come where they should have."""
        return sum(member.skipped for member in self._members)

    def reached_rate(self) -> float:
        """Return the median rate at which the workflows wrote, in events per second."""
        return median([member.written_rate() for member in self._members])

    def spread(self) -> dict[str, float]:
        """Return the latencies of all events."""
        return spread_ms(self.latencies)

    def steady_spread(self) -> dict[str, float]:
        """Return the latencies of what was written in the steady window."""
        return spread_ms(self.steady_latencies, "steady_")


class _Member(Tally):
    """One reader."""

    __slots__ = ("_crowd", "_first_written", "_last_written", "has_ended")

    def __init__(self, crowd: Crowd, count: int) -> None:
        super().__init__(count)
        self._crowd = crowd
        self._first_written = self._last_written = 0.0
        self.has_ended = False

    def note(self, event: dict[str, Any]) -> None:
        now, written = time.monotonic(), event["t"]
        crowd = self._crowd
        if not self.count:
            crowd.note_begun(now)
            self._first_written = written
        self._last_written = written
        crowd.latencies.append(now - written)
        if crowd.steady_since < written < crowd.first_end_at:
            crowd.steady_latencies.append(now - written)
        super().note(event)

    def written_rate(self) -> float:
        return (self.count - 1) / (self._last_written - self._first_written) if self.count > 1 else 0.0
