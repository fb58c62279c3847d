"""What tenants and API keys take at present of what they have limits for. Lives on the queue's server.

Control planes ask and tell; workers tell what their tasks have written. An account is a tenant or an API key: each may
have limits of its own. Times are the server's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from tailplane.broker import scripts
from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.queue import Request
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.ids import WorkerId

# How long a control plane is believed that has told nothing since, in ms: it tells each second.
BELIEVED_MS = 3500
# Into how many parts the retention is divided: what was written leaves part by part.
PARTS = 24


@dataclass(frozen=True, slots=True)
class Rate:
    """How many tasks an account may submit per second."""

    account: str
    per_second: float
    is_of_key: bool = False

    @property
    def burst(self) -> int:
        """How many it may submit at once: those of one second, or one."""
        return max(1, int(self.per_second))


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a rate.

    Attributes:
        submits: how many may come at once now.
        until_all: seconds until as many as ever may.
        until_one: seconds until one may; 0: now.
    """

    rate: Rate
    submits: int
    until_all: float
    until_one: float


@dataclass(frozen=True, slots=True)
class Stored:
    """What a tenant's tasks have written within the retention.

    Attributes:
        until_less: seconds until the oldest part of it leaves; 0 where there is none.
    """

    count: int = 0
    until_less: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What is taken in one deployment. Every method raises StoreUnavailable when Redis does not answer.

    Attributes:
        retention: for how long what was written counts.
    """

    wire: Wire
    keys: Keys
    retention: timedelta

    async def take_submit(
        self, tenant: str, rates: Sequence[Rate], request: Request | None, *, only_look: bool = False
    ) -> tuple[bool, list[Left]]:
        """Take a submit of each of these rates, or of none where one has none left.

        Args:
            request: where it was answered before, nothing is taken.
            only_look: take nothing.
        Returns:
            Whether it may be made; and what is left of each rate, or nothing where the request is known.
        """
        where = self.keys.request(tenant, request.key if request else "-")
        arguments = [value for rate in rates for value in (repr(float(rate.per_second)), rate.burst)]
        word, *rows = await scripts.TAKE_SUBMIT.run(
            self.wire,
            [where, *(self.keys.rate(rate.account) for rate in rates)],
            [int(request is not None), int(only_look), *arguments],
        )
        left = [
            Left(rate, rows[3 * at], rows[3 * at + 1] / 1000, rows[3 * at + 2] / 1000)
            for at, rate in enumerate(rates if rows else ())
        ]
        return word != b"refused", left

    async def tell_readers(self, control_plane: str, counts: Mapping[str, int]) -> dict[str, int]:
        """Tell how many streams of each account a control plane has open; return how many the others have.

        Who tells nothing for `BELIEVED_MS` has none.
        """
        if not counts:
            return {}
        calls = [([self.keys.readers(name)], [control_plane, count, BELIEVED_MS]) for name, count in counts.items()]
        replies = await scripts.TELL_READERS.run_many(self.wire, calls)
        return dict(zip(counts, replies, strict=True))

    async def running(self, workers: Sequence[WorkerId]) -> dict[WorkerId, Counter[str]]:
        """Return how many tasks of each tenant each of these workers runs."""
        if not workers:
            return {}
        rows = await self.wire.call([("HKEYS", self.keys.running(worker)) for worker in workers])
        raise_refusals(rows)
        return {
            worker: Counter(TaskRef.from_member(member).tenant for member in row)
            for worker, row in zip(workers, rows, strict=True)
        }

    async def note_stored(self, written: Mapping[str, int]) -> None:
        """Add what the tasks of each tenant have written, in bytes."""
        if not written:
            return
        arguments = [self._part_ms, self._retention_ms]
        calls = [([self.keys.stored(tenant)], [count, *arguments]) for tenant, count in written.items()]
        await scripts.NOTE_STORED.run_many(self.wire, calls)

    async def stored(self, tenants: Sequence[str]) -> dict[str, Stored]:
        """Return what the tasks of each tenant have written within the retention."""
        if not tenants:
            return {}
        asked = [("HGETALL", self.keys.stored(tenant)) for tenant in tenants]
        (seconds, micros), *rows = replies = await self.wire.call([("TIME",), *asked])
        raise_refusals(replies)
        now = int(seconds) * 1000 + int(micros) // 1000
        return {tenant: self._sum(row, now) for tenant, row in zip(tenants, rows, strict=True)}

    def _sum(self, row: list[bytes], now: int) -> Stored:
        leaves = self._part_ms + self._retention_ms - now
        parts = {int(began): int(count) for began, count in zip(row[::2], row[1::2], strict=True)}
        left = [began for began in parts if began + leaves > 0]
        return Stored(sum(parts[began] for began in left), (min(left) + leaves) / 1000 if left else 0.0)

    @property
    def _retention_ms(self) -> int:
        return int(self.retention.total_seconds() * 1000)

    @property
    def _part_ms(self) -> int:
        return max(1000, self._retention_ms // PARTS)
