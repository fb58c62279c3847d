"""Whether a worker process lives, and whether it takes tasks: asked from the listener's thread."""

from collections.abc import Callable

from tailplane.broker.listener import Verdict
from tailplane.broker.pulse import Pulse
from tailplane.workers.lease import Lease
from tailplane.workers.watchdog import Watchdog

# Seconds without a turn of the platform's loop: the lease is long gone, and the process should be started anew.
_DEAD_AFTER = 10.0


class Vitals:
    """What the listener's thread may ask of a worker.

    A workflow that blocks its loop is told of, but is no reason to kill the process: lease and events go on.

    Args:
        is_draining: whether the worker takes no more tasks.

    Attributes:
        pulse: of the platform's loop.
        lease: None before the worker has got so far.
    """

    def __init__(self, watchdog: Watchdog, is_draining: Callable[[], bool]) -> None:
        self.pulse = Pulse()
        self.lease: Lease | None = None
        self._watchdog = watchdog
        self._is_draining = is_draining

    def live(self) -> Verdict:
        """Return whether the platform's loop turns, and for how long a workflow has blocked its own."""
        late, blocked = self.pulse.late, self._watchdog.blocked_for
        return Verdict(
            late < _DEAD_AFTER,
            {"platform_loop_late_s": round(late, 1), "workflows_loop_blocked_s": round(blocked, 1)},
        )

    def ready(self) -> Verdict:
        """Return whether the worker holds a lease and does not drain."""
        if self._is_draining():
            return _not_ready("this worker drains")
        if self.lease is None or not self.lease.is_held:
            return _not_ready("this worker holds no lease")
        return Verdict(True, {"status": "ready"})


def _not_ready(reason: str) -> Verdict:
    return Verdict(False, {"status": "not ready", "reason": reason})
