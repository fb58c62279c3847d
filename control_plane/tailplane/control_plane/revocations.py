"""The revoked stream tokens, as this control plane knows them: whether one is revoked is asked with every request.

What was revoked elsewhere is looked up in each round of the doorkeeper. While Redis does not answer, what is known is
good for as long as what is known of keys (`known.py`).
"""

import time
from collections import Counter
from collections.abc import Callable

from tailplane.broker.revoked_tokens import KEPT, Revoked, RevokedTokens
from tailplane.control_plane.known import TRUSTED
from tailplane.protocol.errors import Unavailable

# Tokens that one tenant may have revoked at a time: all control planes keep them in memory, 250 bytes each.
MOST_OF_A_TENANT = 20_000


class Revocations:
    """Knows revoked tokens, as far as `look` has been told of them."""

    def __init__(self, tokens: RevokedTokens, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens = tokens
        self._clock = clock
        # By id, the oldest first: whose it is, and until when it is kept, which is longer than it could live.
        self._known: dict[str, tuple[str, float]] = {}
        self._by_tenant: Counter[str] = Counter()
        self._asked_ms = 0
        self._looked_at = float("-inf")

    def has(self, token_id: str) -> bool:
        """Return whether a token is known to be revoked."""
        return token_id in self._known

    async def find(self, token_id: str) -> bool:
        """Return whether a token is revoked, as of a moment ago.

        Raises:
            StoreUnavailable: it is not known, and Redis does not answer.
        """
        if self._clock() - self._looked_at > TRUSTED:
            await self.look()
        return self.has(token_id)

    async def look(self) -> None:
        """Take note of what was revoked since the last time.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        began = self._clock()
        revoked, self._asked_ms = await self._tokens.since(self._asked_ms)
        for token in revoked:
            self._note(token)
        self._looked_at = began
        self._forget(began)

    async def revoke(self, token: Revoked) -> None:
        """Let a token be good for nothing from now on.

        Raises:
            Unavailable: its tenant has too many revoked already.
            StoreUnavailable: Redis does not answer.
        """
        if self.has(token.token_id):
            return
        if self._by_tenant[token.tenant] >= MOST_OF_A_TENANT:
            raise Unavailable(
                f"{MOST_OF_A_TENANT} stream tokens of the tenant were revoked within the hour",
                retry_after=60.0,
                hint="revoke the API key that issued it: all its stream tokens end with it",
            )
        await self._tokens.add(token)
        self._note(token)

    def _note(self, token: Revoked) -> None:
        if token.token_id not in self._known:
            self._known[token.token_id] = token.tenant, self._clock() + KEPT.total_seconds()
            self._by_tenant[token.tenant] += 1

    def _forget(self, now: float) -> None:
        while (oldest := next(iter(self._known), None)) is not None and self._known[oldest][1] <= now:
            tenant, _ = self._known.pop(oldest)
            self._by_tenant[tenant] -= 1
            if not self._by_tenant[tenant]:
                del self._by_tenant[tenant]
