"""The doorkeeper: finds out who makes a request, and whether that is enough for what it asks.

A credential is `Authorization: Bearer`: an API key, or a stream token, which may come as `?token=` where browsers open
streams. Where nobody signs in, everybody is the default tenant, from this machine only (`same_machine.py`).
"""

import asyncio
import hmac
import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from starlette.requests import Request

from tailplane.broker import Broker, Outage, TaskRef
from tailplane.broker.api_keys import KeyRecord
from tailplane.broker.revoked_tokens import Revoked
from tailplane.control_plane.access import ANYBODY, Caller, Need, check_scopes
from tailplane.control_plane.first_key import FirstKey
from tailplane.control_plane.known import REFRESH, TRUSTED
from tailplane.control_plane.known_keys import KnownKeys
from tailplane.control_plane.open_streams import Credential, OpenStreams
from tailplane.control_plane.periodic import repeat
from tailplane.control_plane.proven import Proof, Proven
from tailplane.control_plane.revocations import Revocations
from tailplane.control_plane.same_machine import check_same_machine
from tailplane.control_plane.settings import Settings
from tailplane.protocol.credentials import TOKEN_PREFIX, ApiKey, SignedToken, StreamToken, digest_of
from tailplane.protocol.errors import CredentialExpired, Forbidden, TaskNotFound, Unauthenticated
from tailplane.protocol.ids import parse_task_id
from tailplane.protocol.scopes import spread

# With the time between two looks this makes less than two seconds.
SWEEP = timedelta(seconds=0.5)
_SCHEME = b"bearer "
_HINT = (
    "send Authorization: Bearer and an API key, which `tailplane keys create` makes; "
    "clients find it in TAILPLANE_API_KEY"
)
# What the secret of a key is compared with that nobody has.
_NOBODYS = digest_of("")


class Doorkeeper:
    """Lets callers of one control plane in.

    Attributes:
        known: the keys that it has seen lately.
        revocations: the stream tokens that were revoked.
        clock: what credentials expire by, in seconds since the epoch.
        outage: whether Redis can't be asked what became of credentials.
    """

    def __init__(
        self, broker: Broker, settings: Settings, streams: OpenStreams, clock: Callable[[], float] = time.time
    ) -> None:
        self._broker = broker
        self._demands_keys = settings.demands_keys
        self._answers_this_machine_only = settings.auth is None
        self._origins = settings.origins
        self._streams = streams
        self.clock = clock
        self.known = KnownKeys(broker.api_keys)
        self.revocations = Revocations(broker.revoked_tokens)
        self.outage = Outage("looking after API keys")
        self._proven = Proven()
        self._first_key = FirstKey(broker.api_keys, settings)

    async def run(self) -> None:
        """Look after what became of credentials, and cut the streams of those that have ended, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(repeat(self.look, REFRESH, self.outage))
            # By itself: what expires is cut in time also while Redis does not answer.
            group.create_task(repeat(self._sweep, SWEEP, Outage("cutting streams")))

    async def look(self) -> None:
        """Look known keys and revoked tokens up once, and put the first key again where Redis has lost it.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        # In one round trip: what goes to one server in one turn of the loop goes together.
        known, revoked = await asyncio.gather(
            self.known.refresh((*self._streams.key_ids, *self._first_key.key_ids)),
            self.revocations.look(),
            return_exceptions=True,
        )
        # Also where both have failed: see `admit`.
        self._proven.forget()
        for failure in (known, revoked):
            if failure is not None:
                raise failure
        await self._first_key.keep(self.known)

    async def revoke_token(self, token: Revoked) -> None:
        """Let a stream token be good for nothing from now on, here at once.

        Raises:
            Unavailable: as `Revocations.revoke`.
        """
        await self.revocations.revoke(token)
        self._proven.forget()

    async def _sweep(self) -> None:
        await self._streams.cut_ended(self._is_good)

    async def admit(self, request: Request, need: Need) -> Caller:
        """Return who makes a request that has what it needs.

        Raises:
            Unauthenticated: it has no credential, or none that is good.
            Forbidden: the credential does not go so far.
            TaskNotFound: a session's stream token asks for a task which is not of the session.
            StoreUnavailable: nobody can tell.
        """
        if not self._demands_keys:
            if self._answers_this_machine_only:
                check_same_machine(request, self._origins)
            return ANYBODY
        credential, now = _credential_in(request, need), self.clock()
        caller = self._proven.find(credential, now)
        if caller is None:
            proof = await self._prove(credential, now)
            # While nobody can look it up it proves itself each time: what it is proved by is trusted for so long only.
            if not self.outage.is_on:
                # Nor for longer than that while a round takes long.
                self._proven.note(credential, Proof(proof.caller, min(proof.until, now + TRUSTED)))
            caller = proof.caller
        if (token := caller.token) is not None:
            if need.action not in token.actions:
                raise Forbidden("the stream token is not for this")
            asked = request.path_params
            if token.subject not in (asked.get("task_id"), asked.get("session_id")):
                await self._check_session(asked, token)
        elif not need.scopes <= caller.scopes:
            check_scopes(caller, *need.scopes)
        return caller

    async def _prove(self, credential: bytes, now: float) -> Proof:
        if credential[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("the Authorization is not of the scheme Bearer", hint=_HINT)
        text = credential[len(_SCHEME) :].strip().decode("latin-1")
        return await (self._token_of(text, now) if text.startswith(TOKEN_PREFIX) else self._key_of(text, now))

    async def _key_of(self, text: str, now: float) -> Proof:
        key = ApiKey.parse(text)
        record = await self.known.find(key.key_id)
        good_until = _good_until(key, record, now)
        if record is not None and good_until is None:
            # It may have got this one a moment ago. And so nobody learns by the time it takes which ids there are.
            record = await self.known.look(key.key_id)
            good_until = _good_until(key, record, now)
        if record is None or good_until is None:
            raise Unauthenticated("there is no such API key", hint=_HINT)
        self._check_lives(record, now)
        caller = Caller(record.tenant, record.key_id, spread(record.scopes), None, record.expires_at)
        return Proof(caller, min(good_until, _end_of(record)))

    async def _token_of(self, text: str, now: float) -> Proof:
        signed = SignedToken.parse(text)
        claimed = signed.claimed
        record = None if claimed.key_id is None else await self.known.find(claimed.key_id)
        if not signed.is_signed_with(b"" if record is None else record.signing) or record is None:
            raise Unauthenticated("nobody has issued that stream token")
        self._check_lives(record, now)
        if claimed.expires_ms <= now * 1000:
            raise CredentialExpired("the stream token has expired: fetch another one")
        if claimed.tenant != record.tenant:
            raise Unauthenticated("nobody has issued that stream token")
        if await self.revocations.find(claimed.token_id):
            raise Unauthenticated("the stream token was revoked")
        until = min(claimed.expires_ms / 1000, _end_of(record))
        return Proof(Caller(record.tenant, record.key_id, frozenset(), claimed, until), until)

    def _check_lives(self, record: KeyRecord, now: float) -> None:
        # Whoever has got so far knows the secret, and may know what became of it.
        if record.revoked_at is not None:
            raise Unauthenticated("the API key was revoked", hint=_HINT)
        if record.expires_at is not None and record.expires_at <= now:
            raise CredentialExpired("the API key has expired", hint=_HINT)

    def _is_good(self, credential: Credential) -> bool:
        """Return whether streams may go on that were opened with a credential; yes, while nobody can tell."""
        now = self.clock()
        if credential.token_id is not None and self.revocations.has(credential.token_id):
            return False
        if credential.expires_at is not None and credential.expires_at <= now:
            return False
        assert credential.key_id is not None
        record = self.known.latest(credential.key_id)
        return record is None or record.is_live(now)

    async def _check_session(self, asked: Mapping[str, Any], token: StreamToken) -> None:
        if "task_id" not in asked or token.subject.startswith("t"):
            raise Forbidden("the stream token is for another task or session")
        # A session's opens its tasks, too.
        task = TaskRef(parse_task_id(asked["task_id"]), token.tenant)
        record = await self._broker.tasks.read(task, ("state", "session_id"))
        if record.session_id != token.subject:
            raise TaskNotFound(f"there is no task {task.task_id}", task_id=task.task_id)


def _good_until(key: ApiKey, record: KeyRecord | None, now: float) -> float | None:
    """Return until when a key's secret is good; None: it is not."""
    # Each in constant time, and one in any case: the time that it takes tells nothing of a secret.
    if hmac.compare_digest(key.digest, _NOBODYS if record is None else record.digest):
        return None if record is None else math.inf
    old = () if record is None else record.previous
    return next((each.until for each in old if now < each.until and hmac.compare_digest(key.digest, each.digest)), None)


def _end_of(record: KeyRecord) -> float:
    return math.inf if record.expires_at is None else record.expires_at


def _credential_in(request: Request, need: Need) -> bytes:
    """Return the credential of a request, as it is in an Authorization.

    Raises:
        Unauthenticated: it has none.
    """
    # Not by `request.headers`, which decodes each header until it comes to this one.
    for name, said in request.scope["headers"]:
        if name == b"authorization":
            return bytes(said)
    token = request.query_params.get("token", "") if need.by_query else ""
    if not token:
        raise Unauthenticated("the request has no credential", hint=_HINT)
    if not token.startswith(TOKEN_PREFIX):
        # An API key does not belong into a URL, which ends up in histories and logs.
        raise Unauthenticated("?token= takes a stream token only", hint=_HINT)
    return _SCHEME + token.encode()
