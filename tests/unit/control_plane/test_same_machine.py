"""Where nobody signs in: programs of this machine come in, pages and names from elsewhere do not."""

import pytest
from starlette.requests import Request

from tailplane.control_plane.same_machine import check_same_machine
from tailplane.protocol.errors import Forbidden

HERE = ["localhost", "localhost:8420", "LOCALHOST:8420", "app.localhost", "127.0.0.1:8420", "127.8.9.1", "[::1]:8420"]
ELSEWHERE = [
    "",
    "evil.example",
    "evil.example:8420",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io:8420",
    "0.0.0.0",
    "10.0.0.1:8420",
    "[::ffff:10.0.0.1]",
    "[::]",
    "2130706433",
    "evil.example@localhost",
    "localhost@evil.example",
    "localhost:8420@evil.example",
    "localhost:x",
    "localhost/evil",
    "localhost#",
    "evil.example\\@localhost",
    "localhost, evil.example",
    "[::1",
    "::1",
    "[::1]x",
    "[[::1]]",
    "[",
    "\x00localhost",
    "localhost\u00e9",
]

# No address of a page on this machine.
STRANGE = ["null", "", "file://", "localhost", "http:localhost", "http://localhost/", "://localhost"]


def ask(host: str | None, origin: str | None = None) -> None:
    said = {"host": host, "origin": origin}
    headers = [(name.encode(), value.encode("latin-1")) for name, value in said.items() if value is not None]
    check_same_machine(Request({"type": "http", "headers": headers}))


@pytest.mark.parametrize("host", HERE)
def test_a_program_of_this_machine_comes_in(host: str) -> None:
    ask(host)
    ask("localhost", f"http://{host}")
    ask("localhost", f"vscode-webview://{host}")


@pytest.mark.parametrize("host", ELSEWHERE)
def test_a_name_that_somebody_else_has_pointed_here_does_not(host: str) -> None:
    with pytest.raises(Forbidden) as caught:
        ask(host)
    assert "TAILPLANE_AUTH" in (caught.value.hint or "")


@pytest.mark.parametrize("origin", STRANGE + [f"http://{host}" for host in ELSEWHERE])
def test_a_page_from_elsewhere_does_not(origin: str) -> None:
    with pytest.raises(Forbidden):
        ask("127.0.0.1:8420", origin)


def test_a_request_without_a_host_does_not() -> None:
    with pytest.raises(Forbidden):
        ask(None)
