"""Says once that Redis is away, and once that it is back, however often a loop tries meanwhile."""

import time
from collections.abc import Hashable

import structlog

from tailplane.protocol.errors import StoreForbidden

log = structlog.get_logger(__name__)


class Outage:
    """What one loop knows of Redis being away, or several that do the same for different shards.

    Args:
        what: what does not happen meanwhile, for the log.
        hint: what whoever reads the log may look at.

    Attributes:
        count: how many outages there were.
    """

    def __init__(self, what: str, hint: str | None = None) -> None:
        self.what = what
        self._hint = {} if hint is None else {"hint": hint}
        self.count = 0
        self._since = 0.0
        self._failing: set[Hashable] = set()

    @property
    def is_on(self) -> bool:
        """Whether the last try failed, of any part."""
        return bool(self._failing)

    def noticed(self, error: BaseException, part: Hashable = None) -> None:
        """Note that a try failed; the first one is logged. `part`: whose, where there are several."""
        is_first = not self._failing
        self._failing.add(part)
        if is_first:
            self._since = time.monotonic()
            self.count += 1
            # Nobody waits for a refusal to pass by itself.
            say, what = (
                (log.error, "Redis refuses") if isinstance(error, StoreForbidden) else (log.warning, "Redis is away")
            )
            say(what, waiting=self.what, reason=str(error) or type(error).__name__, **self._hint)

    def over(self, part: Hashable = None) -> None:
        """Note that a try succeeded; the one after which no part fails any more is logged."""
        if part in self._failing:
            self._failing.discard(part)
            if not self._failing:
                away = time.monotonic() - self._since
                log.info("Redis is back", waited=self.what, away_s=round(away, 1))
