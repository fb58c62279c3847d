"""What makes two requests the same: digests of the idempotency key and of the request that came with it. No I/O."""

import hashlib
from typing import Any

import orjson

from tailplane.broker import Request
from tailplane.protocol import codec, json_codec


def request_of(key: str | None, *, method: str, path: str, body: Any) -> Request | None:
    """Return the request that an idempotency key stands for; None if it came without one.

    Two bodies that say the same are the same, in JSON with or without spaces, in any order of keys, or in msgpack.
    The tenant needs no part in it: the memory of keys is each tenant's own.

    Raises:
        Unserialisable: the body can't be the request of anything.
    """
    if key is None:
        return None
    content = b"\n".join((method.encode(), path.encode(), _canonical(body)))
    return Request(hashlib.sha256(key.encode()).hexdigest(), hashlib.sha256(content).hexdigest())


def _canonical(body: Any) -> bytes:
    try:
        return orjson.dumps(body, _bytes_form, orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)
    except TypeError:
        # Bytes as keys: their order then counts. Nested beyond what we take at all: refused here as everywhere.
        return codec.pack(body)


def _bytes_form(value: object) -> object:
    return orjson.Fragment(json_codec.to_json(value))
