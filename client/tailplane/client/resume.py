"""Whether and when a stream that broke off is taken up again: the judge of `endings`. No I/O, no clock of its own.

Without a new event in between a hole is read again once, garbage twice; anything else until `give_up_after` has passed
without progress. Progress is also a connection that lived: an idle stream that a proxy cuts each minute is healthy.
"""

import random
from collections.abc import Callable
from typing import assert_never

from tailplane.client.backoff import Backoff
from tailplane.client.endings import Ended, Ending, Garbage, Hinted, Hole, Lost
from tailplane.client.options import ReconnectPolicy
from tailplane.client.problems import with_hint
from tailplane.protocol.errors import ConnectionLost, StreamGap, StreamMalformed, TooManyReaders

# The first reading may have met a proxy's error page or a broken cache; what three readings gave is how it is.
_MOST_GARBAGE = 3
_MOST_HOLES = 2


class ResumePlan:
    """Remembers what went wrong since the last progress."""

    def __init__(self, policy: ReconnectPolicy, draw: Callable[[], float] = random.random) -> None:
        """Begin without a past; `draw` gives numbers from 0 to 1."""
        self._policy = policy
        self._draw = draw
        self._backoff = Backoff(policy.base, policy.cap, draw)
        self._down_since: float | None = None
        self._holes = 0
        self._garbage = 0

    def lived(self) -> None:
        """Note that a connection held for a while: the way is free, whatever the stream brings."""
        self._backoff.reset()
        self._down_since = None

    def moved(self) -> None:
        """Note that the cursor moved: what went wrong before is past."""
        self.lived()
        self._holes = 0
        self._garbage = 0

    def delay(self, ending: Ending, now: float) -> float:
        """Return after how many seconds to connect again.

        Args:
            ending: how the connection ended; not `Ended`.
            now: a monotonic clock's time in seconds.
        Raises:
            StreamGap: the hole is there at the second reading, too.
            StreamMalformed: three readings gave garbage.
            TooManyReaders: there was no room for this reader for `give_up_after`, or none is promised before that.
            ConnectionLost: any other reason why there was no progress for so long, or none can come before.
        """
        if self._down_since is None:
            self._down_since = now
        match ending:
            case Hole(last_seq, next_seq):
                self._holes += 1
                if self._holes >= _MOST_HOLES:
                    raise StreamGap(
                        f"event {next_seq} follows event {last_seq}, also at the second reading",
                        last_seq=last_seq,
                        next_seq=next_seq,
                        hint="the store lost events; to read what is left, start at the cursor before next_seq",
                    )
                delay = self._backoff.next_delay()
            case Garbage(detail):
                self._garbage += 1
                if self._garbage >= _MOST_GARBAGE:
                    raise StreamMalformed(f"the stream can't be decoded at {self._garbage} readings: {detail}")
                delay = self._backoff.next_delay()
            case Hinted(reconnect_ms):
                # Never below half of it: the one that drains needs the time to leave its load balancer.
                delay = max(self._policy.base.total_seconds(), reconnect_ms / 1000) * (0.5 + self._draw() / 2)
            case Lost(_, retry_after_s):
                # The jitter comes on top, or all that were told the same time come back at the same time.
                delay = (retry_after_s or 0.0) + self._backoff.next_delay()
            case Ended():
                raise ValueError("a stream that ended is not resumed")
            case _:
                assert_never(ending)
        self._check_patience(ending, now + delay - self._down_since)
        return delay

    def _check_patience(self, ending: Ending, without_progress_s: float) -> None:
        patience = self._policy.give_up_after
        if patience is None or without_progress_s <= patience.total_seconds():
            return
        reason = ending.reason if isinstance(ending, Lost) else None
        if isinstance(reason, TooManyReaders):
            # Nothing is the matter with the connection.
            raise reason
        lost = ConnectionLost(f"the stream made no progress for {patience.total_seconds():g} s; the last try: {ending}")
        if isinstance(reason, ConnectionLost):
            # Its text is in ours already.
            raise with_hint(lost, reason.hint) from None
        raise lost from reason
