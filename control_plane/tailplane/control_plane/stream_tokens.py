"""Stream tokens: what an application gives a browser, so that it reads one task or session and nothing else.

A token is signed, not kept: who issues one leaves nothing behind in Redis. It ends by itself, by being revoked, or with
the API key for which it was issued. Where nobody signs in tokens are issued, too, so that an application's code is the
same; nobody looks at them there.
"""

import os
from collections.abc import Collection
from datetime import timedelta

from tailplane.broker import Broker, TaskRef
from tailplane.broker.revoked_tokens import Revoked
from tailplane.control_plane.access import Caller
from tailplane.control_plane.doorkeeper import Doorkeeper
from tailplane.control_plane.lookup import find_task
from tailplane.protocol.credentials import StreamToken, new_token_id, signer_of
from tailplane.protocol.errors import Forbidden, KeyNotFound, Unauthenticated
from tailplane.protocol.ids import KeyId, SessionId, TaskId
from tailplane.protocol.scopes import SCOPE_OF, Action, Scope


class StreamTokens:
    """Issues and revokes the stream tokens of one control plane."""

    def __init__(self, broker: Broker, doorkeeper: Doorkeeper) -> None:
        self._broker = broker
        self._doorkeeper = doorkeeper
        # Where nobody signs in.
        self._secret = os.urandom(32)

    async def issue(
        self, caller: Caller, subject: TaskId | SessionId, actions: Collection[Action], life: timedelta
    ) -> tuple[StreamToken, str]:
        """Return a token, and what its holder sends, which nobody can tell again.

        Args:
            caller: with an API key, which signs it.
            subject: what it opens: of the caller's tenant.
            actions: what it lets its holder do; the caller may do all of it.
            life: how long, unless the key ends before that.
        Raises:
            Forbidden: the caller lacks a scope.
            TaskNotFound, SessionNotFound: there is no such task or session.
            StoreUnavailable: Redis does not answer.
        """
        # First: who may not have the token learns nothing of the task.
        _check_scopes(caller, actions)
        await self._check_there(caller.tenant, subject)
        expires_at = self._doorkeeper.clock() + life.total_seconds()
        if caller.expires_at is not None:
            expires_at = min(expires_at, caller.expires_at)
        token = StreamToken(
            token_id=new_token_id(caller.key_id),
            tenant=caller.tenant,
            key_id=caller.key_id,
            subject=subject,
            actions=frozenset(actions),
            expires_ms=int(expires_at * 1000),
        )
        return token, token.sign(await self._signing(caller))

    async def revoke(self, caller: Caller, token_id: str) -> None:
        """Let a token be good for nothing from now on, and its streams end.

        Raises:
            InvalidId: it has not the form of one.
            Forbidden: it was issued for another API key, and the caller is no admin.
            KeyNotFound: it was issued for a key that the tenant does not have.
            Unavailable: too many of the tenant's are revoked; or Redis does not answer.
        """
        signer = signer_of(token_id)
        if caller.key_id is None:
            return
        if signer != caller.key_id:
            await self._check_admin(caller, signer)
        await self._doorkeeper.revoke_token(Revoked(caller.tenant, token_id))

    async def _check_admin(self, caller: Caller, signer: KeyId | None) -> None:
        if Scope.ADMIN not in caller.scopes:
            raise Forbidden("the stream token was issued for another API key", missing=[Scope.ADMIN])
        record = None if signer is None else await self._doorkeeper.known.find(signer)
        if record is None or record.tenant != caller.tenant:
            raise KeyNotFound("no API key of yours has issued that stream token")

    async def _check_there(self, tenant: str, subject: TaskId | SessionId) -> None:
        if subject.startswith("t"):
            await find_task(self._broker, TaskRef(TaskId(subject), tenant), ("state",))
        else:
            await self._broker.catalogue.session(tenant, SessionId(subject))

    async def _signing(self, caller: Caller) -> bytes:
        if caller.key_id is None:
            return self._secret
        record = await self._doorkeeper.known.find(caller.key_id)
        if record is None:
            raise Unauthenticated("there is no such API key")
        return record.signing


def _check_scopes(caller: Caller, actions: Collection[Action]) -> None:
    if missing := {SCOPE_OF[action] for action in actions} - caller.scopes:
        raise Forbidden(
            f"the API key lacks the scope {', '.join(sorted(missing))} to give these actions away",
            missing=sorted(missing),
        )
