from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.client.bodies import Body, ChunkedBody, RestBody, SizedBody


def chunk(content: bytes, extension: bytes = b"", *, upper: bool = False) -> bytes:
    size = b"%X" if upper else b"%x"
    return size % len(content) + extension + b"\r\n" + content + b"\r\n"


def read(body: Body, pieces: Iterable[bytes]) -> bytes:
    return b"".join(body.feed(piece) for piece in pieces)


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


EXTENSIONS = st.sampled_from([b"", b" ", b"\t ", b";name=value", b' ; a="b;c"', b";"])
TRAILERS = st.lists(st.sampled_from([b"Expires: never\r\n", b"X: \xff\r\n"]), max_size=3).map(b"".join)
CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=50), EXTENSIONS, st.booleans()), max_size=8)


@given(st.data(), CHUNKS, TRAILERS)
def test_the_cuts_of_the_network_do_not_matter(
    data: st.DataObject, chunks: list[tuple[bytes, bytes, bool]], trailers: bytes
) -> None:
    raw = b"".join(chunk(content, extension, upper=upper) for content, extension, upper in chunks)
    raw += b"0\r\n" + trailers + b"\r\n"
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8))), len(raw)]
    wanted = b"".join(content for content, _, _ in chunks)

    for pieces in ([raw[start:end] for start, end in pairwise(cuts)], bytewise(raw), [raw]):
        body = ChunkedBody()
        assert read(body, pieces) == wanted
        assert body.is_complete
        assert body.excess == b""
        body.end()
        assert body.failure is None


def test_content_is_given_before_its_chunk_is_complete() -> None:
    body = ChunkedBody()

    assert body.feed(b"a\r\nhello") == b"hello"
    assert body.feed(b"world\r") == b"world"
    assert body.feed(b"\n5\r\nagain\r\n") == b"again"
    assert not body.is_complete


@pytest.mark.parametrize(
    "pieces", [[b"0\r\n\r\nHTTP/1.1"], [b"0\r\n\r\n", b"HTTP/1.1"], bytewise(b"0\r\n\r\nHTTP/1.1")]
)
def test_what_follows_the_end_is_kept_apart(pieces: list[bytes]) -> None:
    body = ChunkedBody()

    assert read(body, pieces) == b""
    assert body.excess == b"HTTP/1.1"


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"5\n12345\r\n",
        b"-5\r\n12345\r\n",
        b"+5\r\n12345\r\n",
        b"0x5\r\n12345\r\n",
        b"5_0\r\n",
        b" 5\r\n12345\r\n",
        b"5 5\r\n12345\r\n",
        b"1234567890abcdef\r\n",
        b"5\r\n1234567\r\n",
        b"5\r\n12345\r5\r\n",
        b"5\r\n12345\n",
        b"<html>502 Bad Gateway</html>\r\n",
        b"0\r\nTrailer: x\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 1000,
        b"5;" + b"x" * 10_000,
        b"0\r\n" + b"x" * 10_000,
    ],
)
def test_what_is_no_chunk_is_refused(raw: bytes) -> None:
    for pieces in ([raw], bytewise(raw)):
        body = ChunkedBody()
        read(body, pieces)
        assert body.failure
        assert not body.is_complete


@pytest.mark.parametrize("cut", range(len(b"5\r\n12345\r\n0\r\n\r\n")))
def test_a_chunked_body_that_breaks_off_is_told(cut: int) -> None:
    body = ChunkedBody()
    body.feed(b"5\r\n12345\r\n0\r\n\r\n"[:cut])

    assert body.failure is None
    body.end()
    assert body.failure == "the connection ended in the middle of a chunked body"


def test_content_before_the_trouble_is_given() -> None:
    body = ChunkedBody()

    assert body.feed(b"5\r\nhello\r\nno chunk\r\n") == b"hello"
    assert body.failure == "a chunk does not begin with its size"
    assert body.feed(b"5\r\nhello\r\n") == b""


def test_a_sized_body_has_its_length() -> None:
    body = SizedBody(5)
    assert body.feed(b"123") == b"123"
    assert not body.is_complete

    assert body.feed(b"45HTTP") == b"45"
    assert body.feed(b"/1.1") == b""
    body.end()
    assert (body.is_complete, body.excess, body.failure) == (True, b"HTTP/1.1", None)


def test_a_sized_body_that_breaks_off_is_told() -> None:
    body = SizedBody(5)
    body.feed(b"123")
    body.end()

    assert body.failure == "the connection ended 2 bytes before the body's end"


def test_an_empty_body_is_complete_at_once() -> None:
    assert SizedBody(0).is_complete


def test_a_body_without_length_ends_with_its_connection() -> None:
    body = RestBody()
    assert body.feed(b"all of it") == b"all of it"
    assert not body.is_complete
    body.end()
    assert body.is_complete
