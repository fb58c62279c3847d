"""What the attempts of a worker process share: the side of it that talks to Redis."""

from dataclasses import dataclass, field
from datetime import timedelta

from tailplane.broker import Broker, TaskRef
from tailplane.protocol.ids import WorkerId
from tailplane.workers.acknowledgements import Acknowledgements
from tailplane.workers.budget import Budget
from tailplane.workers.counts import Counts
from tailplane.workers.emitter import Limits
from tailplane.workers.kept import Kept
from tailplane.workers.runner import Runner
from tailplane.workers.stream_bells import StreamBells
from tailplane.workers.writer import Writer


@dataclass(frozen=True, slots=True)
class Platform:
    """What attempts share: the platform side of this worker process.

    Attributes:
        ran: tasks that may run once, from where their code begins here until it has ended here. One that is lost
            stays, so that this worker knows it again if it is given back to it.
    """

    broker: Broker
    acknowledgements: Acknowledgements
    writer: Writer
    kept: Kept
    runner: Runner
    worker: WorkerId
    host: str
    limits: Limits
    budget: Budget
    stop_grace: timedelta
    park_after: timedelta
    bells: StreamBells
    counts: Counts = field(default_factory=Counts)
    ran: set[TaskRef] = field(default_factory=set)
