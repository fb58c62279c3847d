import pytest
from starlette.requests import Request
from starlette.types import Message

from tailplane.control_plane.bodies import parse, read_body
from tailplane.control_plane.models import Cancel, Submit
from tailplane.protocol.errors import InvalidRequest, TooLarge


def request(*chunks: bytes, **headers: str) -> tuple[Request, list[bytes]]:
    """Return a request whose body comes in chunks, and the list of those not taken yet."""
    left = list(chunks)

    async def receive() -> Message:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive), left


async def test_a_body_in_chunks_is_put_together() -> None:
    asked, _ = request(b'{"a"', b": ", b"1}")

    assert await read_body(asked, 8, empty=None) == {"a": 1}


async def test_nothing_is_taken_past_the_limit() -> None:
    asked, left = request(b"12345", b"67890", b"never", b"taken")

    with pytest.raises(TooLarge):
        await read_body(asked, 9, empty=None)

    assert left == [b"never", b"taken"]


async def test_a_body_that_announces_too_much_is_not_read() -> None:
    asked, left = request(b"12345", content_length="10")

    with pytest.raises(TooLarge):
        await read_body(asked, 9, empty=None)

    assert left == [b"12345"]


async def test_an_empty_body_is_of_any_type() -> None:
    asked, _ = request(b"", content_type="text/plain")

    assert await read_body(asked, 9, empty="nothing") == "nothing"


def test_what_does_not_fit_says_where() -> None:
    assert parse(Cancel, {}) == Cancel()
    with pytest.raises(InvalidRequest) as caught:
        parse(Submit, {})
    assert caught.value.facts["errors"] == [{"loc": ["body", "workflow"], "msg": "Field required"}]
