"""Whether and when a task gets another attempt. No I/O."""

import random
from datetime import timedelta

from tailplane.protocol.errors import InvalidInput
from tailplane.workers.workflow import Options

# However long its chain of failures, a task is tried again within this time.
_LONGEST_DELAY = timedelta(minutes=1)


class Retry(Exception):
    """Raised by a workflow: this attempt failed, try again. It counts as any failed attempt, whatever `retry_on` says.

    Attributes:
        after: how long to wait before the next attempt; None: as the workflow's `retry_delay` says.
    """

    def __init__(self, message: str = "", *, after: timedelta | float | None = None) -> None:
        """Say why, and when to try again (a timedelta, or seconds)."""
        super().__init__(message)
        self.after = timedelta(seconds=after) if isinstance(after, int | float) else after


def delay_before_retry(options: Options, failures: int, error: BaseException) -> timedelta | None:
    """Return how long a task waits for its next attempt; None: it gets none.

    Args:
        options: its workflow's.
        failures: how many attempts failed before this one.
        error: what the present one failed with.
    """
    # What did not fit the first time fits at no time.
    if failures >= options.retries or isinstance(error, InvalidInput):
        return None
    if isinstance(error, Retry):
        if error.after is not None:
            return max(error.after, timedelta())
    elif not isinstance(error, options.retry_on):
        return None
    # In seconds, for a timedelta overflows where someone retries fifty times.
    doubled = options.retry_delay.total_seconds() * 2.0 ** min(failures, 64)
    bound = min(doubled, _LONGEST_DELAY.total_seconds())
    # Half of it is drawn: what failed together must not come back together.
    return timedelta(seconds=bound * random.uniform(0.5, 1.0))
