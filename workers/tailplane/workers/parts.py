"""The parts of a running worker, as its metrics look at them: from another thread, without changing anything."""

from dataclasses import dataclass

from tailplane.broker import Broker, Outage
from tailplane.workers.attempts import Attempts
from tailplane.workers.counts import Counts
from tailplane.workers.kept import Kept
from tailplane.workers.lease import Lease
from tailplane.workers.queue import LeasedWorker
from tailplane.workers.readiness import Vitals
from tailplane.workers.watchdog import Watchdog
from tailplane.workers.writer import Writer


@dataclass(frozen=True, slots=True)
class Parts:
    """What is looked at. `attempts` are those that run, `telling` is the outage of telling what tasks have written."""

    vitals: Vitals
    watchdog: Watchdog
    counts: Counts
    writer: Writer
    kept: Kept
    lease: Lease
    queue: LeasedWorker
    broker: Broker
    attempts: Attempts
    telling: Outage
