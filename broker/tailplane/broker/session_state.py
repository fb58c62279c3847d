"""What the tasks of a session share: a few small values under keys, each with a version. Lives on the queue's server.

Used by control planes and workers. A write may demand a version, and is refused where another one was there before.
"""

import re
from dataclasses import dataclass
from datetime import timedelta

from tailplane.broker import scripts
from tailplane.broker.joins import SessionRef
from tailplane.broker.keys import Keys
from tailplane.broker.queue import SESSION_IDLE
from tailplane.broker.wire import Wire
from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidRequest, StateConflict, TooLarge
from tailplane.protocol.versioned import Versioned

# Bounds: of one value, in bytes of msgpack, and of the keys of one session. It lives in Redis' memory, and is read as a
# whole: larger things belong in a store of their own.
MAX_VALUE_BYTES = 64 * 1024
MAX_KEYS = 100
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def check_key(key: str) -> str:
    """Return `key` if it can be one of a session's state: 1-128 of letters, digits, `_`, `.`, `:` and `-`.

    Raises:
        InvalidRequest: it can't.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            f"{key[:80]!r} can't be a key of a session's state: use 1-128 of letters, digits, _ . : -",
            errors=[{"loc": ["key"], "msg": "1-128 of letters, digits, _ . : -"}],
        )
    return key


def pack_value(value: object) -> bytes:
    """Return a value as it is kept.

    Raises:
        Unserialisable: msgpack can't carry it.
        TooLarge: it is over `MAX_VALUE_BYTES`.
    """
    packed = codec.pack(value)
    if len(packed) > MAX_VALUE_BYTES:
        raise TooLarge(
            f"the value has {len(packed)} bytes, {MAX_VALUE_BYTES} are allowed in a session's state",
            size=len(packed),
            hint="keep large things in a store of their own, and in the state where they are",
        )
    return packed


@dataclass(frozen=True, slots=True)
class SessionStates:
    """The states of all sessions of a deployment. Every method raises StoreUnavailable when Redis does not answer."""

    wire: Wire
    keys: Keys

    async def get(self, ref: SessionRef, key: str) -> Versioned:
        """Return a value; version 0 where there is none.

        Raises:
            InvalidRequest: `key` can't be one.
        """
        field = await self.wire.run("HGET", self._key(ref), check_key(key))
        return Versioned() if field is None else _parse(field)

    async def all(self, ref: SessionRef) -> dict[str, Versioned]:
        """Return all values, by their keys."""
        rows = await self.wire.run("HGETALL", self._key(ref))
        found = {rows[i].decode(): _parse(rows[i + 1]) for i in range(0, len(rows), 2)}
        return dict(sorted(found.items()))

    async def set(self, ref: SessionRef, key: str, packed: bytes, version: int | None, call: str) -> int:
        """Set a value, and return its version.

        Args:
            packed: what `pack_value` gave.
            version: the one that it must have; 0: it must not be there; None: whatever it has.
            call: tells this call from others, without spaces: sent again, it changes nothing.
        Raises:
            StateConflict: it has another version.
            TooLarge: the session has `MAX_KEYS` others.
            InvalidRequest: `key` can't be one.
        """
        expected = "" if version is None else version
        arguments = [check_key(key), packed, expected, MAX_KEYS, _ms(SESSION_IDLE), call]
        keys = [self._key(ref), self.keys.session(ref.tenant, ref.session_id)]
        match await scripts.SET_STATE.run(self.wire, keys, arguments):
            case [b"set", made]:
                return int(made)
            case [b"conflict", found]:
                raise StateConflict(
                    f"{key} has version {found}, and not {version}", key=key, expected=version or 0, found=found
                )
            case [_, count]:
                raise TooLarge(f"the session's state has {count} keys, and no more are allowed")
        raise AssertionError("unreachable")

    def _key(self, ref: SessionRef) -> str:
        return self.keys.session_state(ref.tenant, ref.session_id)


def _parse(field: bytes) -> Versioned:
    version, _, packed = field.split(b" ", 2)
    return Versioned(codec.unpack(packed), int(version))


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
