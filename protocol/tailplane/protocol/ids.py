"""Identifiers: of tasks, sessions, workers and API keys, and of entries in a stream. No I/O.

Ids of tasks, sessions, workers and keys are a one-letter prefix and a time-ordered 26-character number in base 32
(Crockford;
48 bits of milliseconds, 80 random bits), so that sorting ids sorts by creation. Entry ids are `<fence>-<seq>`:
see PROTOCOL.md 4.1.
"""

import hashlib
import os
import re
import time
from typing import NamedTuple, NewType, Self

from tailplane.protocol.errors import InvalidId

TaskId = NewType("TaskId", str)
SessionId = NewType("SessionId", str)
WorkerId = NewType("WorkerId", str)
KeyId = NewType("KeyId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
# Bytes behind the time.
_TAIL = 10
_PATTERNS = {prefix: re.compile(f"{prefix}_[{_ALPHABET}]{{{_LENGTH}}}") for prefix in "tswk"}
_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_WORKFLOW = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_SCHEDULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

DEFAULT_TENANT = "default"
MAX_SEQ = 2**63 - 1


def _new(prefix: str) -> str:
    return _of(prefix, int(time.time() * 1000), os.urandom(_TAIL))


def _of(prefix: str, ms: int, tail: bytes) -> str:
    number = (ms << 8 * _TAIL) | int.from_bytes(tail, "big")
    digits = []
    for _ in range(_LENGTH):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return f"{prefix}_{''.join(reversed(digits))}"


def new_task_id() -> TaskId:
    """Return a fresh task id, `t_` and 26 characters."""
    return TaskId(_new("t"))


def task_id_at(ms: int, *names: str) -> TaskId:
    """Return the task id that these names have at a time, in ms since the epoch: always the same one."""
    digest = hashlib.blake2b("\0".join(names).encode(), digest_size=_TAIL).digest()
    return TaskId(_of("t", ms, digest))


def new_session_id() -> SessionId:
    """Return a fresh session id, `s_` and 26 characters."""
    return SessionId(_new("s"))


def new_worker_id() -> WorkerId:
    """Return a fresh worker id, `w_` and 26 characters."""
    return WorkerId(_new("w"))


def new_key_id() -> KeyId:
    """Return a fresh id of an API key, `k_` and 26 characters."""
    return KeyId(_new("k"))


def _parse(prefix: str, what: str, text: str) -> str:
    if not _PATTERNS[prefix].fullmatch(text):
        raise InvalidId(f"{text[:80]!r} is not a {what} id; one looks like {prefix}_01jd3z0v9m6s8k2x4q7w5e1r0t")
    return text


def parse_task_id(text: str) -> TaskId:
    """Return `text` as a task id.

    Raises:
        InvalidId: it has not the form of one.
    """
    return TaskId(_parse("t", "task", text))


def parse_session_id(text: str) -> SessionId:
    """Return `text` as a session id.

    Raises:
        InvalidId: it has not the form of one.
    """
    return SessionId(_parse("s", "session", text))


def parse_worker_id(text: str) -> WorkerId:
    """Return `text` as a worker id.

    Raises:
        InvalidId: it has not the form of one.
    """
    return WorkerId(_parse("w", "worker", text))


def parse_key_id(text: str) -> KeyId:
    """Return `text` as the id of an API key.

    Raises:
        InvalidId: it has not the form of one.
    """
    return KeyId(_parse("k", "key", text))


def check_tenant(text: str) -> str:
    """Return `text` if it can be a tenant: 1-40 of a-z, 0-9 and inner hyphens.

    Raises:
        InvalidId: it can't.
    """
    if not _TENANT.fullmatch(text):
        raise InvalidId(f"{text[:80]!r} is not a tenant: use 1-40 of a-z, 0-9 and inner hyphens")
    return text


def check_workflow_name(text: str) -> str:
    """Return `text` if it can be a workflow's name: a letter or `_`, then up to 127 letters, digits, `_`, `.`, `-`.

    Raises:
        InvalidId: it can't.
    """
    if not _WORKFLOW.fullmatch(text):
        raise InvalidId(f"{text[:80]!r} is not a workflow name: a letter or _, then letters, digits, _ . or -")
    return text


def check_schedule_name(text: str) -> str:
    """Return `text` if it can be a schedule's name: a letter, digit or `_`, then up to 127 of these, `.` and `-`.

    Raises:
        InvalidId: it can't.
    """
    if not _SCHEDULE.fullmatch(text):
        raise InvalidId(f"{text[:80]!r} is not a schedule name: a letter, digit or _, then also . and -, 128 at most")
    return text


class EntryId(NamedTuple):
    """The id of one entry of a task's stream: Redis orders and fences entries by it.

    `fence` is the number of the attempt that wrote the entry, or one more where the platform ended that attempt
    from outside. `seq` is the seq of the entry's last event.
    """

    fence: int
    seq: int

    @classmethod
    def parse(cls, raw: bytes | str) -> Self:
        """Return the id that Redis prints as `<fence>-<seq>`."""
        text = raw.decode() if isinstance(raw, bytes) else raw
        fence, _, seq = text.partition("-")
        return cls(int(fence), int(seq))

    def __str__(self) -> str:
        return f"{self.fence}-{self.seq}"
