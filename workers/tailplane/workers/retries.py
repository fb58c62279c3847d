"""Whether and when a task gets another attempt, or a step another try. No I/O."""

import random
from datetime import timedelta
from typing import Protocol

from tailplane.protocol.errors import InvalidInput, WorkflowChanged

# However long its chain of failures, a task is tried again within this time.
_LONGEST_DELAY = timedelta(minutes=1)


class Retry(Exception):
    """Raised by a workflow: this attempt failed, try again. It counts as any failed attempt, whatever `retry_on` says.

    Attributes:
        after: how long to wait before the next attempt; None: as the workflow's `retry_delay` says.
    """

    def __init__(self, message: str = "", *, after: timedelta | float | None = None) -> None:
        """Say why, and when to try again (a timedelta, or seconds).

        Raises:
            TypeError: `after` is neither.
        """
        super().__init__(message)
        if not isinstance(after, timedelta | int | float | None):
            raise TypeError(f"after must be a timedelta, or a number of seconds, not {after!r}")
        self.after = timedelta(seconds=after) if isinstance(after, int | float) else after


class RetryPolicy(Protocol):
    """What an author says of repeating a workflow, or a step; see `Options`."""

    @property
    def retries(self) -> int: ...
    @property
    def retry_delay(self) -> timedelta: ...
    @property
    def retry_on(self) -> type[BaseException] | tuple[type[BaseException], ...]: ...


def delay_before_retry(options: RetryPolicy, failures: int, error: BaseException) -> timedelta | None:
    """Return how long a task waits for its next attempt, or a step for its next try; None: it gets none.

    Args:
        options: its workflow's, or its own.
        failures: how many failed before this one.
        error: what the present one failed with.
    """
    # What did not fit the first time fits at no time, unless somebody mends it.
    if failures >= options.retries or isinstance(error, InvalidInput | WorkflowChanged):
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
