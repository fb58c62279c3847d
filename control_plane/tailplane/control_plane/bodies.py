"""Request bodies: read up to the limit while they arrive, decoded by their Content-Type, checked against a model."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from tailplane.control_plane.answers import JSON, MSGPACK, MSGPACK_TYPES
from tailplane.protocol import codec, json_codec
from tailplane.protocol.errors import InvalidRequest, TooLarge

M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, limit: int, *, max_containers: int = 65_536, empty: Any) -> Any:
    """Return the value that a request's body holds.

    Args:
        request: its Content-Type says JSON or msgpack; none at all means JSON.
        limit: the most bytes that are taken.
        max_containers: the most lists and maps that are taken.
        empty: what no body at all stands for.

    Raises:
        TooLarge: it is over the limit; no more than that was kept.
        InvalidRequest: malformed, too deep, or of too many parts.
        HTTPException: 415, another Content-Type, or packed: a megabyte unpacks to a thousand.
    """
    packed_as = request.headers.get("content-encoding", "identity").strip().lower()
    if packed_as not in ("", "identity"):
        raise HTTPException(415, "send the body as it is, without Content-Encoding", {"Accept-Encoding": "identity"})
    raw = await _read(request, limit)
    if not raw:
        return empty
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind == JSON:
        return json_codec.from_foreign_json(raw, max_containers)
    if kind in MSGPACK_TYPES:
        return codec.unpack_foreign(raw, max_containers)
    raise HTTPException(415, f"send {JSON} or {MSGPACK}; with curl: --json, or -H 'Content-Type: {JSON}'")


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(limit)
    received = bytearray()
    # The announced length is a claim, and a chunked body has none: count.
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received += message.get("body", b"")
        if len(received) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(received)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is over {limit:,} bytes", limit=limit)


def parse(model: type[M], value: Any) -> M:
    """Return a body's value as `model`.

    Raises:
        InvalidRequest: it does not fit; `errors` says where.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Of what our own checks say, without the words that pydantic puts before it.
        errors: list[dict[str, Any]] = [
            {"loc": ["body", *each["loc"]], "msg": each["msg"].removeprefix("Value error, ")}
            for each in error.errors(include_input=False)
        ]
        first = ": ".join([*map(str, errors[0]["loc"][1:]), errors[0]["msg"]])
        raise InvalidRequest(f"the body does not fit {model.__name__}: {first}", errors=errors) from None
