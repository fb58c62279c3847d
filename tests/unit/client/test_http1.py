import httpx2
import pytest

from tailplane.client.bodies import ChunkedBody, RestBody, SizedBody
from tailplane.client.http1 import LONGEST_HEAD, check_names, head_end, parse_head, request_head


def test_a_request_is_a_line_and_its_headers() -> None:
    raw = request_head("GET", "/v1/tasks?limit=1", {"host": "h", "accept": "*/*"})

    assert raw == b"GET /v1/tasks?limit=1 HTTP/1.1\r\nhost: h\r\naccept: */*\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nX-Smuggled: 1", "a\nb", "a\rb", "a\0b"])
def test_a_value_cannot_smuggle_lines_into_a_request(value: str) -> None:
    with pytest.raises(httpx2.LocalProtocolError, match="line break"):
        request_head("POST", "/", {"idempotency-key": value})


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(httpx2.LocalProtocolError, match="not the name"):
        check_names({"host": "h", name: "x"})


def test_a_value_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        request_head("POST", "/", {"idempotency-key": "é"})


def test_a_head_ends_with_an_empty_line() -> None:
    raw = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"

    assert head_end(raw) == len(raw) - len(b"body")
    assert all(head_end(raw[:length]) == 0 for length in range(len(raw) - len(b"body")))
    assert head_end(b"HTTP/1.1 200 OK\nA: b\n\nbody") == len(b"HTTP/1.1 200 OK\nA: b\n\n")


def test_a_head_without_end_is_refused() -> None:
    with pytest.raises(httpx2.RemoteProtocolError, match="longer than"):
        head_end(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * LONGEST_HEAD)


def test_headers_are_found_by_their_names_in_lower_case_and_joined() -> None:
    head = parse_head(b"HTTP/1.1 200\r\nContent-TYPE:  text/html \r\nVia: a\r\nvia: b\r\nEmpty:\r\n\r\n")

    assert head.status == 200
    assert head.headers == {"content-type": "text/html", "via": "a, b", "empty": ""}


@pytest.mark.parametrize(
    ("raw", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\n\r\n", False),
    ],
)
def test_whether_the_connection_can_be_used_again(raw: bytes, keeps_alive: bool) -> None:
    assert parse_head(raw).keeps_alive is keeps_alive


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n continued\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
    ],
)
def test_a_malformed_head_is_refused(raw: bytes) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        parse_head(raw)


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (b"200 OK\r\nTransfer-Encoding: Chunked", ChunkedBody),
        (b"200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", ChunkedBody),
        (b"200 OK\r\nContent-Length: 5", SizedBody),
        (b"200 OK\r\nContent-Length: 5\r\nContent-Length: 5", SizedBody),
        (b"204 No Content\r\nTransfer-Encoding: chunked", SizedBody),
        (b"200 OK", RestBody),
    ],
)
def test_a_head_says_how_its_body_comes(lines: bytes, body: type) -> None:
    assert type(parse_head(b"HTTP/1.1 " + lines + b"\r\n\r\n").body()) is body


@pytest.mark.parametrize(
    "lines",
    [
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Length: -5",
        b"Content-Length: five",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: \xb2",
        b"Content-Length: 99999999999999999999",
    ],
)
def test_a_body_without_a_certain_end_is_refused(lines: bytes) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        parse_head(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n").body()
