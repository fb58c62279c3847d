"""Says once that Redis is away, and once that it is back, however often a loop tries meanwhile."""

import time

import structlog

from tailplane.protocol.errors import StoreForbidden

log = structlog.get_logger(__name__)


class Outage:
    """What one loop knows of Redis being away.

    Args:
        what: what does not happen meanwhile, for the log.

    Attributes:
        count: how many outages there were.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._since is not None

    def noticed(self, error: BaseException) -> None:
        """Note that a try failed; the first one is logged."""
        if self._since is None:
            self._since = time.monotonic()
            self.count += 1
            # Nobody waits for a refusal to pass by itself.
            say, what = (
                (log.error, "Redis refuses") if isinstance(error, StoreForbidden) else (log.warning, "Redis is away")
            )
            say(what, waiting=self.what, reason=str(error) or type(error).__name__)

    def over(self) -> None:
        """Note that a try succeeded; the first one after an outage is logged."""
        if self._since is not None:
            away = time.monotonic() - self._since
            log.info("Redis is back", waited=self.what, away_s=round(away, 1))
            self._since = None
