"""What makes two requests the same: digests of the idempotency key and of the request that came with it. No I/O."""

import hashlib
from typing import Any

from tailplane.broker import Request
from tailplane.protocol import codec
from tailplane.protocol.errors import Unserialisable


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
    return Request(_digest(key.encode()), _digest(content))


def _digest(content: bytes) -> str:
    # Python's own: to set up OpenSSL's SHA-256 takes longer than everything else here.
    return hashlib.blake2b(content, digest_size=32).hexdigest()


def _canonical(body: Any) -> bytes:
    try:
        return codec.pack(_sorted(body))
    except RecursionError:
        raise Unserialisable("the body is nested too deeply") from None


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            pairs = [(codec.pack(key), key, _sorted(item)) for key, item in value.items()]
            return {key: item for _, key, item in sorted(pairs, key=lambda pair: pair[0])}
        case list():
            return [_sorted(item) for item in value]
        case _:
            return value
