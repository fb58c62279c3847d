"""The stream tokens that were revoked before their time. Lives on the queue's server; control planes use it.

A Redis Stream whose entries the server numbers by its clock: a control plane reads what is new to it, and nothing
twice. An entry is dropped when every token of its time has expired by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from tailplane.broker.keys import Keys
from tailplane.broker.store import Command
from tailplane.broker.wire import Wire, raise_refusals
from tailplane.protocol.credentials import LONGEST_LIFE

# As long as any token lives, and what clocks may differ by.
KEPT = LONGEST_LIFE + timedelta(minutes=10)
# What is read again each time, in ms: after a failover the server's clock may be another one, and a bit behind.
_OVERLAP_MS = 10_000
# Entries in one read.
_PAGE = 10_000


class Revoked(NamedTuple):
    """A token that was revoked, and whose it was."""

    tenant: str
    token_id: str


@dataclass(frozen=True, slots=True)
class RevokedTokens:
    """The revoked tokens of one deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def add(self, token: Revoked) -> None:
        """Let a token be good for nothing from now on; a second time does nothing more."""
        kept_ms = int(KEPT.total_seconds() * 1000)
        # By the clock that numbers them: one of ours that is ahead would drop what others revoked a moment ago.
        seconds, _ = await self.wire.run("TIME")
        oldest = f"{int(seconds) * 1000 - kept_ms}-0"
        where = self.keys.revoked_tokens
        commands: Sequence[Command] = [
            ("MULTI",),
            ("XADD", where, "MINID", oldest, "*", "t", f"{token.tenant}/{token.token_id}"),
            ("PEXPIRE", where, kept_ms),
            ("EXEC",),
        ]
        replies = await self.wire.call(commands)
        raise_refusals(replies)
        raise_refusals(replies[-1])

    async def since(self, last_ms: int) -> tuple[list[Revoked], int]:
        """Return those that were revoked since, and what to ask with the next time.

        Some come again. Revocations of one moment can't be told apart by it.

        Args:
            last_ms: what the call before has returned; 0: all are wanted.
        """
        first = f"{max(0, last_ms - _OVERLAP_MS)}-0"
        found: list[Revoked] = []
        while True:
            rows = await self.wire.run("XRANGE", self.keys.revoked_tokens, first, "+", "COUNT", _PAGE)
            found += [Revoked(*fields[1].decode().split("/", 1)) for _, fields in rows]
            if rows:
                newest = rows[-1][0].decode()
                last_ms, first = max(last_ms, int(newest.partition("-")[0])), f"({newest}"
            if len(rows) < _PAGE:
                return found, last_ms
