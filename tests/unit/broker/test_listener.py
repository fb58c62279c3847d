"""The port for probes and metrics: real sockets, and clients that do not behave."""

import http.client
import socket
import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tailplane.broker import listener as module
from tailplane.broker.listener import Listener, MetricsUnguarded, PortTaken, Questions, Verdict, _Handler
from tailplane.deploy.ports import HOST, free_port

# Seconds. More than a test ever takes, and a bound on one that hangs.
DEADLINE = 20


class Program:
    """What the listener asks."""

    def __init__(self) -> None:
        self.is_live = self.is_ready = True
        self.asked: list[str] = []

    def metrics(self, accept: str) -> tuple[bytes, str]:
        self.asked.append(accept)
        return b"a 1\n", "text/plain; version=0.0.4"


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def port(program: Program) -> Iterator[int]:
    port = free_port()
    questions = Questions(
        lambda: Verdict(program.is_live, {"late_s": 0.5}), lambda: Verdict(program.is_ready), program.metrics
    )
    listener = Listener(HOST, port, questions)
    yield port
    listener.close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE)
    connection.request(method, path, headers={"Accept": "text/plain"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers["Content-Type"], body


def test_a_probe_is_answered_as_the_program_says(port: int, program: Program) -> None:
    assert ask(port, "/livez") == (200, "application/json", b'{"late_s": 0.5}\n')
    assert ask(port, "/readyz?verbose")[0] == 200
    program.is_live = program.is_ready = False
    assert ask(port, "/livez")[0] == 503
    assert ask(port, "/readyz")[0] == 503


def test_metrics_come_in_the_format_that_is_asked_for(port: int, program: Program) -> None:
    assert ask(port, "/metrics") == (200, "text/plain; version=0.0.4", b"a 1\n")
    assert program.asked == ["text/plain"]


def test_head_has_no_body_and_other_paths_and_methods_are_refused(port: int) -> None:
    assert ask(port, "/metrics", "HEAD")[2] == b""
    assert ask(port, "/")[0] == 404
    assert ask(port, "/livez", "POST")[0] == 501


def test_clients_that_say_nothing_hold_nobody_up_and_too_many_are_hung_up_on(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Handler, "timeout", 1.0)
    silent = [socket.create_connection((HOST, port), timeout=DEADLINE) for _ in range(15)]
    assert ask(port, "/livez")[0] == 200
    # The answer's thread may not have ended yet, so that one place or none is free.
    more = [socket.create_connection((HOST, port), timeout=DEADLINE) for _ in range(2)]
    # Hung up on without a word; the others are after a while.
    assert all(connection.recv(1) == b"" for connection in more)
    assert all(connection.recv(1) == b"" for connection in silent)
    assert ask(port, "/livez")[0] == 200
    for connection in silent + more:
        connection.close()


def test_clients_that_send_a_byte_now_and_then_do_not_keep_their_places(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST", 1.0)
    slow = [socket.create_connection((HOST, port), timeout=DEADLINE) for _ in range(16)]
    deadline = time.monotonic() + DEADLINE
    left = list(slow)
    while left:
        assert time.monotonic() < deadline, f"{len(left)} of them are still there"
        for connection in list(left):
            try:
                connection.send(b"G")
            except OSError:
                left.remove(connection)
        time.sleep(0.1)
    assert ask(port, "/livez")[0] == 200
    for connection in slow:
        connection.close()


def test_a_port_in_use_is_said_with_the_way_out(port: int, program: Program) -> None:
    questions = Questions(lambda: Verdict(True), lambda: Verdict(True), program.metrics)
    with pytest.raises(PortTaken, match=rf"{HOST}:{port}.*in use") as raised:
        Listener(HOST, port, questions)
    assert "TAILPLANE_METRICS_PORT" in (raised.value.hint or "")


def test_an_address_of_another_machine_is_refused(program: Program) -> None:
    questions = Questions(lambda: Verdict(True), lambda: Verdict(True), program.metrics)
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1"):
        Listener("192.0.2.1", free_port(), questions, SecretStr("none"))


TOKEN = "a-token-for-metrics-only"


def metrics(port: int, *said: str) -> list[int]:
    """Return the statuses of /metrics with these values of Authorization; empty: none."""
    found = []
    for value in said:
        connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE)
        connection.request("GET", "/metrics", headers={"Authorization": value} if value else {})
        answer = connection.getresponse()
        assert (answer.headers["WWW-Authenticate"] is not None) == (answer.status == 401)
        assert TOKEN.encode() not in answer.read()
        connection.close()
        found.append(answer.status)
    return found


def test_metrics_want_the_token_and_probes_none(program: Program) -> None:
    port = free_port()
    questions = Questions(lambda: Verdict(True), lambda: Verdict(True), program.metrics)
    listener = Listener("0.0.0.0", port, questions, SecretStr(TOKEN))
    try:
        refused = ["", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer \xe9", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
        assert metrics(port, *refused) == [401] * len(refused)
        assert program.asked == []
        assert metrics(port, f"Bearer {TOKEN}", f"bearer  {TOKEN}") == [200, 200]
        assert ask(port, "/livez")[0] == ask(port, "/readyz")[0] == 200
    finally:
        listener.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_metrics_that_others_could_read_want_a_token_or_a_word(program: Program, host: str) -> None:
    questions = Questions(lambda: Verdict(True), lambda: Verdict(True), program.metrics)
    with pytest.raises(MetricsUnguarded) as raised:
        Listener(host, free_port(), questions)
    assert "TAILPLANE_METRICS_TOKEN" in (raised.value.hint or "")


def test_the_word_none_lets_everybody_look(program: Program) -> None:
    port = free_port()
    questions = Questions(lambda: Verdict(True), lambda: Verdict(True), program.metrics)
    listener = Listener("0.0.0.0", port, questions, SecretStr("none"))
    assert metrics(port, "", "Bearer whatever") == [200, 200]
    listener.close()


def test_a_token_is_demanded_on_loopback_too_where_one_is_set(program: Program) -> None:
    port = free_port()
    questions = Questions(lambda: Verdict(True), lambda: Verdict(True), program.metrics)
    listener = Listener(HOST, port, questions, SecretStr(TOKEN))
    assert metrics(port, "", f"Bearer {TOKEN}") == [401, 200]
    listener.close()
