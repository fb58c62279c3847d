"""msgpack in and out: the only serialisation inside Tailplane. No I/O, no pickle.

What travels: None, bool, int (64 bits), float, str, bytes, list and tuple (read back as list), dict, aware datetime
(read back in UTC), and pydantic models (read back as dict, or as the model where the reader knows it).
"""

import dataclasses
import threading
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgpack
import pydantic_core
from pydantic import BaseModel, TypeAdapter

from tailplane.protocol.errors import InvalidRequest, Unserialisable


def _refuse(value: object) -> object:
    if isinstance(value, BaseModel):
        # Its serialisers are the author's code and may pack something themselves: with this packer, which is in the
        # middle of a value, they would mix the two.
        busy, _packers.strict = _packers.strict, _strict_packer()
        try:
            return dump_model(value)
        finally:
            _packers.strict = busy
    if isinstance(value, int):
        raise Unserialisable("an int over 64 bits can't be sent: send it as a str")
    if isinstance(value, datetime):
        raise Unserialisable("a datetime without a time zone can't be sent: give it one, such as timezone.utc")
    raise Unserialisable(f"a {type(value).__module__}.{type(value).__qualname__} can't be sent", hint=_hint(value))


def _hint(value: object) -> str:
    """Return what to send in a value's place."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "send `dataclasses.asdict(it)`, or make it a pydantic model, whose readers get the model again"
    if isinstance(value, set | frozenset):
        return "a set has no order: send `sorted(it)`"
    if isinstance(value, UUID | Decimal | PurePath | date | time):
        return "send `str(it)`, or let it be the field of a pydantic model, which reads it back as what it is"
    return "send str, numbers, bytes, list, dict, None, aware datetimes or pydantic models"


def _jsonable(value: object) -> object:
    # Inside a model everything that pydantic can turn into JSON is welcome: the reader's model turns it back.
    if isinstance(value, int):
        return _refuse(value)
    busy, _packers.lenient = _packers.lenient, _lenient_packer()
    try:
        return pydantic_core.to_jsonable_python(value)
    except pydantic_core.PydanticSerializationError as error:
        raise Unserialisable(f"a field of the model can't be sent: {error}") from None
    finally:
        _packers.lenient = busy


def _strict_packer() -> msgpack.Packer:
    return msgpack.Packer(datetime=True, default=_refuse)


def _lenient_packer() -> msgpack.Packer:
    return msgpack.Packer(datetime=True, default=_jsonable)


class _NotPlain(Exception):
    """The value holds something that is to be looked at more closely."""


def _give_up(value: object) -> object:
    raise _NotPlain


def _plain_packer() -> msgpack.Packer:
    # Exact types only: no tuple, which as a key could not be read back, no subclass, no datetime.
    return msgpack.Packer(strict_types=True, default=_give_up)


class _Packers(threading.local):
    """A msgpack Packer is not safe to share between threads, and costly to make anew."""

    def __init__(self) -> None:
        self.pack_plain = _plain_packer().pack
        self.strict = _strict_packer()
        self.lenient = _lenient_packer()


_packers = _Packers()

# What is read back as it is, whatever its value.
SCALARS = (str, bytes, int, float, type(None))

# Envelope, payload and frame come on top, and readers' JSON and msgpack libraries must still take it: orjson takes 254.
MAX_NESTING = 200

# How a timestamp begins that may lie outside of what a datetime can be.
_FAR_TIME = b"\xc7\x0c\xff"
# With these bytes msgpack begins an array or a map.
_HEADERS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))


def _run(packer: msgpack.Packer, value: object) -> bytes:
    try:
        packed: bytes = packer.pack(value)
    except UnicodeEncodeError:
        raise Unserialisable("a str with lone surrogates can't be sent: it is not valid Unicode") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise Unserialisable(f"the value can't be sent: {error}") from None
    return packed


def pack(value: object, *, check: bool = True, extensions: bool = False) -> bytes:
    """Return `value` as msgpack.

    Args:
        check: make sure that it can be read back; leave it out only for what consists of `SCALARS`.
        extensions: let extensions (msgpack.ExtType) pass, for who reads with `extensions`.
    Raises:
        Unserialisable: it holds something that msgpack can't carry.
    """
    packed = _run(_packers.strict, value)
    if check and not isinstance(value, SCALARS):
        _read_back(packed, msgpack.ExtType if extensions else _no_extension)
    return packed


def pack_plain(value: object) -> bytes:
    """Return `value` as msgpack, as `pack` with `extensions` does, but at half the cost where it holds nothing but
    plain str, numbers, bytes, None, lists and dicts: that can be read back, and needs no second look.
    """
    try:
        packed: bytes = _packers.pack_plain(value)
    except Exception:
        # Something else is in it, or something wrong, which `pack` will name.
        return pack(value, extensions=True)
    # One byte as a number is found many times as fast as three.
    if 0xC7 in packed and _FAR_TIME in packed:
        return pack(value, extensions=True)
    # As `_count_headers`, without the call.
    if len(packed) > MAX_NESTING and len(packed) - len(packed.translate(None, _HEADERS)) > MAX_NESTING:
        return pack(value, extensions=True)
    return packed


def _count_headers(packed: bytes) -> int:
    return len(packed) - len(packed.translate(None, _HEADERS))


def _read_back(packed: bytes, ext_hook: Callable[[int, bytes], object]) -> Any:
    # msgpack packs some values that it can't unpack, and every reader would break on them: a dict with a tuple as
    # key, a time that lies past the year 9999 in UTC, extension types. To read all of it costs no more than to look for
    # these.
    try:
        value = msgpack.unpackb(packed, timestamp=3, strict_map_key=False, ext_hook=ext_hook)
    except Exception as error:
        raise Unserialisable(
            f"the value could not be read back: {_reason(error)}",
            hint="keys must be str, numbers or bytes, and datetimes lie within the years 1 to 9999 in UTC",
        ) from None
    # Each level has a header: where there are fewer such bytes, whatever they are, it can't be too deep.
    if len(packed) > MAX_NESTING and _count_headers(packed) > MAX_NESTING:
        _check_nesting(value)
    return value


def _check_nesting(value: object) -> None:
    if _is_deeper(value, MAX_NESTING):
        raise Unserialisable(f"the value is nested over {MAX_NESTING} levels deep")


def _is_deeper(value: object, levels: int) -> bool:
    # Level by level: what is too deep is too deep for a function that calls itself.
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level for inner in _containers_in(outer)]
        if not level:
            return False
    return True


def _containers_in(value: Any) -> list[object]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


def dump_model(model: BaseModel) -> Any:
    """Return a model as plain values; fields of types that msgpack lacks (UUID, Decimal ...) become their JSON form.

    Raises:
        Unserialisable: a field has no such form.
    """
    return _dump(model.model_dump(round_trip=True))


def dump_as(type_: TypeAdapter[Any], value: object) -> Any:
    """Return a value as plain values by what is known of its type, as `dump_model` does.

    Validated by the same type they are the value again, if that says enough: `object` does not.

    Raises:
        Unserialisable: something in it has no such form.
    """
    try:
        plain = type_.dump_python(value, round_trip=True, warnings=False)
    except (ValueError, RecursionError) as error:
        raise Unserialisable(f"the value can't be sent: {error}") from None
    return _dump(plain)


def _dump(value: object) -> Any:
    return _read_back(_run(_packers.lenient, value), _no_extension)


def _no_extension(code: int, _: bytes) -> object:
    raise InvalidRequest(f"msgpack extension type {code} is not known here; only timestamps (-1) are")


def unpack(raw: bytes | memoryview, *, extensions: bool = False) -> Any:
    """Return the one value that `raw` holds; timestamps become aware datetimes in UTC.

    Args:
        extensions: return extensions that are unknown here as msgpack.ExtType, rather than refuse them.
    Raises:
        InvalidRequest: malformed msgpack, more than one value, or an unknown extension.
    """
    hook = msgpack.ExtType if extensions else _no_extension
    try:
        return msgpack.unpackb(raw, timestamp=3, strict_map_key=False, ext_hook=hook)
    except InvalidRequest:
        raise
    # msgpack raises ValueError and its subclasses, and TypeError for a map key that can't be hashed.
    except Exception as error:
        raise InvalidRequest(f"malformed msgpack: {_reason(error)}") from None


class _Containers:
    """Counts the lists and maps of a value while it is read, and stops where there are too many."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, container: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise InvalidRequest(f"the value has over {self._most:,} lists and maps")
        return container


def unpack_foreign(raw: bytes, max_containers: int) -> Any:
    """Return the one value that `raw` holds, which anybody may have sent: as `unpack`, with bounds.

    Empty lists and maps take a byte each on the wire and 72 bytes of memory, maps of one pair three bytes and 220.

    Args:
        raw: as long as the caller lets it be.
        max_containers: how many lists and maps it may have.
    Raises:
        InvalidRequest: malformed, too many lists and maps, or more than `MAX_NESTING` levels deep, and one for what
            the value itself is wrapped in.
    """
    headers = _count_headers(raw)
    try:
        if headers > max_containers:
            # As many bytes may begin one; text and numbers have such bytes, too. To count costs a call for each.
            count = _Containers(max_containers).take
            value = msgpack.unpackb(
                raw, timestamp=3, strict_map_key=False, ext_hook=_no_extension, list_hook=count, object_hook=count
            )
        else:
            value = msgpack.unpackb(raw, timestamp=3, strict_map_key=False, ext_hook=_no_extension)
    except InvalidRequest:
        raise
    except Exception as error:
        raise InvalidRequest(f"malformed msgpack: {_reason(error)}") from None
    if headers > MAX_NESTING:
        check_depth(value)
    return value


def check_depth(value: object) -> None:
    """Let a value pass that is not too deep for what comes after.

    Raises:
        InvalidRequest: it is nested more than `MAX_NESTING` levels deep, and one for what the value itself is in.
    """
    if _is_deeper(value, MAX_NESTING + 1):
        raise InvalidRequest(f"the value is nested over {MAX_NESTING} levels deep")


def _reason(error: Exception) -> str:
    return error.detail if isinstance(error, InvalidRequest) else str(error) or type(error).__name__


def unpacker(max_bytes: int) -> msgpack.Unpacker:
    """Return an incremental reader, which reads as `unpack` with `extensions`: feed it bytes, iterate over its values.

    Args:
        max_bytes: bound of what it holds, and so of one value; `feed` raises msgpack.BufferFull past it.
    """
    return msgpack.Unpacker(timestamp=3, strict_map_key=False, max_buffer_size=max_bytes)


def array_header(length: int) -> bytes:
    """Return the msgpack bytes that announce an array of `length` items."""
    if length < 16:
        return bytes((0x90 | length,))
    if length < 65536:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")
