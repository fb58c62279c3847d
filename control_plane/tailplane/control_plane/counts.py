"""What a control plane counts: plain numbers, changed on its loop, and read when somebody scrapes."""

from collections import Counter
from time import time

from tailplane.broker import Entry
from tailplane.broker.histogram import Histogram
from tailplane.broker.tenant_labels import TenantLabels
from tailplane.protocol.errors import TailplaneError
from tailplane.protocol.events import first_time

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Why a connection is ended by the server.
TURNED_AWAY = ("connections", "head", "head_timeout", "body_timeout", "send_timeout", "malformed")
# Seconds.
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Counts:
    """The numbers of one control plane.

    Attributes:
        requests: by method, route and status; a route is its template, so that no id gets into it.
        request_seconds: by route, until the response began.
        tenants: what tenants are counted under.
        submitted: tasks that were queued, by workflow and tenant.
        refused: submits that a limit refused, by workflow, tenant and the error's code.
        readers_refused: streams that were one too many, by tenant.
        turned_away: connections that were ended with what was asked over them, by reason; see `guarding`.
        entries, entry_bytes: that came into the windows while somebody read the stream.
        arrival: of one entry in eight, seconds from the writing of its first event until it was in the window: by the
            worker's wall clock and by this machine's.
        handover: of the same, seconds from then until all readers that waited for it had been given it, or its sending
            was theirs.
        fired, missed, skipped: due times of schedules: fired; passed over since they were too late, or not the latest;
            passed over since the run before had not ended.
        ended: responses that streamed, by what ended them.
        gaps: times that a reader was told of events that it will never see.
        slow: times that a response waited for a client that did not read.
    """

    def __init__(self, tenants: TenantLabels | None = None) -> None:
        self.tenants = tenants or TenantLabels()
        self.requests: Counter[tuple[str, ...]] = Counter()
        self.request_seconds: dict[tuple[str, ...], Histogram] = {}
        self.submitted: Counter[tuple[str, ...]] = Counter()
        self.refused: Counter[tuple[str, ...]] = Counter()
        self.readers_refused: Counter[tuple[str, ...]] = Counter()
        self.turned_away: Counter[tuple[str, ...]] = Counter({(reason,): 0 for reason in TURNED_AWAY})
        self.fired = self.missed = self.skipped = 0
        self.entries = self.entry_bytes = 0
        self.arrival = Histogram(_FAST)
        self.handover = Histogram(_FAST)
        self.ended: Counter[tuple[str, ...]] = Counter({(why,): 0 for why in ("end", "left", "drain", "cut", "gone")})
        self.gaps = self.slow = 0

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose response begins."""
        self.requests[method if method in _METHODS else "other", route, str(status)] += 1
        histogram = self.request_seconds.get((route,))
        if histogram is None:
            histogram = self.request_seconds[route,] = Histogram(_FAST)
        histogram.observe(seconds)

    def note_submitted(self, workflow: str, tenant: str) -> None:
        """Count a task that was queued."""
        self.submitted[workflow, self.tenants[tenant]] += 1

    def note_refused(self, workflow: str, tenant: str, error: TailplaneError) -> None:
        """Count a submit of a workflow that there is, which a limit refused."""
        self.refused[workflow, self.tenants[tenant], error.code] += 1

    def note_reader_refused(self, tenant: str) -> None:
        """Count a stream that was not opened, for it was one too many."""
        self.readers_refused[self.tenants[tenant],] += 1

    def note_entry(self, entry: Entry) -> bool:
        """Count an entry that has come into a window; return whether it is one of those whose times are measured."""
        self.entries += 1
        self.entry_bytes += len(entry.payload)
        # To take the times of each one would cost a sixth of what its way through the window does.
        if self.entries & 7 != 1:
            return False
        written = first_time(entry.payload)
        if written is not None:
            self.arrival.observe(max(0.0, time() - written))
        return True
