"""Teaches schemathesis to send msgpack: the OpenAPI document offers it for every body."""

from typing import Any

import msgpack
import schemathesis


@schemathesis.serializer("application/msgpack")
def to_msgpack(_: Any, value: Any) -> bytes | None:
    try:
        return msgpack.packb(value)
    except (TypeError, ValueError, OverflowError):
        # What msgpack can't carry can't be sent; JSON carries it in another case.
        return msgpack.packb(repr(value).encode("utf-8", "replace"))
