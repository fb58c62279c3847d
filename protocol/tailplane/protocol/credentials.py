"""Credentials as text: API keys, and the stream tokens that they sign. No I/O.

    API key        tp_<id>_<secret>      id: the 26 characters behind `k_` of its key id; secret: 32 random bytes
    stream token   tps_<claims>.<mac>    claims: msgpack; mac: HMAC-SHA256 of them with what the API key signs with

Both are url-safe base64 without padding. The prefixes let people, and programs that look for leaked secrets, tell them
from other text. Of a secret only its digest is kept: it is random, so that a plain SHA-256 is as good as a slow hash.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidId, InvalidRequest, Unauthenticated
from tailplane.protocol.ids import KeyId, SessionId, TaskId, check_tenant, parse_key_id, parse_session_id, parse_task_id
from tailplane.protocol.scopes import Action

_API_KEY = re.compile(r"tp_([0-9a-z]{26})_([A-Za-z0-9_-]{43})")
_TOKEN = re.compile(r"tps_([A-Za-z0-9_-]{1,700})\.([A-Za-z0-9_-]{43})")
TOKEN_PREFIX = "tps_"
# Of a token: the key that has signed it, and 12 random bytes. Where nobody signs in there is no key.
TOKEN_ID_PATTERN = r"(k_[0-9abcdefghjkmnpqrstvwxyz]{26}|nobody)\.[A-Za-z0-9_-]{16}"
_TOKEN_ID = re.compile(TOKEN_ID_PATTERN)
_NOBODY = "nobody"
# How long a token may live.
SHORTEST_LIFE, LONGEST_LIFE = timedelta(seconds=10), timedelta(hours=1)
_VERSION = 1


class ApiKey(NamedTuple):
    """An API key as its holder has it."""

    key_id: KeyId
    secret: str

    @classmethod
    def draw(cls, key_id: KeyId) -> "ApiKey":
        """Return a key of that id with a secret that nobody had before."""
        return cls(key_id, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "ApiKey":
        """Return the key that a text is.

        Raises:
            Unauthenticated: it is none.
        """
        found = _API_KEY.fullmatch(text)
        if found is None:
            raise Unauthenticated("that is no API key: one begins with tp_ and has 73 characters")
        try:
            return cls(parse_key_id(f"k_{found[1]}"), found[2])
        except InvalidRequest:
            raise Unauthenticated("that is no API key") from None

    @property
    def text(self) -> str:
        """What its holder sends."""
        return f"tp_{self.key_id.removeprefix('k_')}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is kept of it: SHA-256 of the secret."""
        return digest_of(self.secret)

    def __repr__(self) -> str:
        return f"ApiKey({self.key_id!r})"


def digest_of(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class StreamToken:
    """What a stream token says: who signed it, and what it opens until when.

    Attributes:
        token_id: tells it from others, to revoke it; see `new_token_id`.
        key_id: the API key that it was issued for, and which ends it by its own end; None: nobody signs in there.
        subject: the task or the session that it opens.
        actions: what it lets its holder do.
        expires_ms: when it ends, in ms since the epoch.
    """

    token_id: str
    tenant: str
    key_id: KeyId | None
    subject: TaskId | SessionId
    actions: frozenset[Action]
    expires_ms: int

    def sign(self, secret: bytes) -> str:
        """Return the token as text."""
        claims = [
            _VERSION, self.token_id, self.tenant, self.key_id, self.subject, sorted(self.actions), self.expires_ms
        ]  # fmt: skip
        packed = codec.pack(claims)
        return f"{TOKEN_PREFIX}{_encoded(packed)}.{_encoded(_mac(secret, packed))}"


class SignedToken(NamedTuple):
    """A token as it came: what it says is not to be believed before `is_signed_with` has said so."""

    claimed: StreamToken
    packed: bytes
    mac: bytes

    @classmethod
    def parse(cls, text: str) -> "SignedToken":
        """Return what a text claims.

        Raises:
            Unauthenticated: it is no stream token.
        """
        found = _TOKEN.fullmatch(text)
        if found is None:
            raise Unauthenticated("that is no stream token: one begins with tps_")
        try:
            packed, mac = _decoded(found[1]), _decoded(found[2])
            return cls(_token_of(codec.unpack(packed)), packed, mac)
        except (InvalidRequest, ValueError, TypeError, binascii.Error):
            raise Unauthenticated("that is no stream token of this version") from None

    def __repr__(self) -> str:
        # Its parts together are the credential.
        return f"SignedToken({self.claimed!r})"

    def is_signed_with(self, secret: bytes) -> bool:
        """Return whether this secret has signed it; takes as long whatever the answer."""
        return hmac.compare_digest(self.mac, _mac(secret, self.packed))


def new_token_id(key_id: KeyId | None) -> str:
    """Return a fresh id of a token that a key signs; None: nobody signs in there."""
    return f"{key_id or _NOBODY}.{secrets.token_urlsafe(12)}"


def signer_of(token_id: str) -> KeyId | None:
    """Return the API key that has signed the token of an id; None: nobody signs in there.

    Raises:
        InvalidId: it has not the form of one.
    """
    found = _TOKEN_ID.fullmatch(token_id)
    if found is None:
        # Not repeated: somebody may have sent the token itself.
        raise InvalidId("that is not the id of a stream token, which is told beside it")
    return None if found[1] == _NOBODY else KeyId(found[1])


def _token_of(claims: Any) -> StreamToken:
    version, token_id, tenant, key_id, subject, actions, expires_ms = claims
    texts_are = all(isinstance(text, str) for text in (token_id, tenant, subject))
    if version != _VERSION or not texts_are or type(expires_ms) is not int or not isinstance(actions, list):
        raise ValueError("claims of another form")
    parse_subject = parse_task_id if subject.startswith("t") else parse_session_id
    return StreamToken(
        token_id=token_id[:64],
        tenant=check_tenant(tenant),
        key_id=None if key_id is None else parse_key_id(key_id),
        subject=parse_subject(subject),
        actions=frozenset(map(Action, actions)),
        expires_ms=expires_ms,
    )


def _mac(secret: bytes, packed: bytes) -> bytes:
    return hmac.digest(secret, b"tailplane stream token\0" + packed, "sha256")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encoded(raw) != text:
        # Bits that decode to nothing: the same bytes would have several texts.
        raise ValueError("not in its one form")
    return raw
