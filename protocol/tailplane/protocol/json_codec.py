"""JSON in and out, for people, browsers and curl. Needs orjson, which the base (client) install does not bring.

Bytes have no JSON form: they are shown as `{"$bytes": "<base64>"}`, an extension as `{"$ext": [<code>, "<base64>"]}`.
Datetimes are shown as RFC 3339 text.
"""

import base64
import json
import math
import re
from datetime import datetime
from typing import Any

import msgpack
import orjson

from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidRequest

# A string, as JSON has them; possessive, so that one without end takes no second look.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


def _bytes_form(value: object) -> object:
    if isinstance(value, msgpack.ExtType):
        return {"$ext": [value.code, base64.b64encode(value.data).decode()]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


def _plain(value: object) -> object:
    # The slow way, for what orjson refuses: bytes as map keys and nesting over 254 levels.
    match value:
        case dict():
            return {_key(key): _plain(item) for key, item in value.items()}
        case msgpack.ExtType():
            return _bytes_form(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case bytes():
            return _bytes_form(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _key(key: object) -> str:
    match key:
        case str():
            return key
        case bytes():
            return base64.b64encode(key).decode()
        case msgpack.ExtType():
            return f"{key.code}:{base64.b64encode(key.data).decode()}"
        case _:
            # As orjson writes it: true, null, 1.5, 2024-01-01T00:00:00Z.
            return orjson.dumps(key, None, _OPTIONS).decode().strip('"')


def to_json(value: object) -> bytes:
    """Return any value that `codec.unpack` can give as compact JSON."""
    try:
        return orjson.dumps(value, _bytes_form, _OPTIONS)
    except TypeError:
        return json.dumps(_plain(value), separators=(",", ":")).encode()


def from_json(raw: bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        InvalidRequest: malformed JSON; the text says where.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"malformed JSON: {error}") from None


def from_foreign_json(raw: bytes, max_containers: int) -> Any:
    """Return the value of a JSON document that anybody may have sent: as `from_json`, with bounds.

    Args:
        raw: as long as the caller lets it be.
        max_containers: how many lists and objects it may have.
    Raises:
        InvalidRequest: malformed, too many lists and objects, or too deep, as `codec.check_depth` has it.
    """
    begun = raw.count(b"[") + raw.count(b"{")
    if begun > max_containers:
        # In strings they are text.
        bare = _STRING.sub(b"", raw)
        if bare.count(b"[") + bare.count(b"{") > max_containers:
            raise InvalidRequest(f"the value has over {max_containers:,} lists and objects")
    value = from_json(raw)
    if begun > codec.MAX_NESTING:
        codec.check_depth(value)
    return value
