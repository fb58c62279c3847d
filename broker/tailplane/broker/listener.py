"""A port for probes and metrics: `/livez`, `/readyz` and `/metrics`.

Both programs open one where `metrics_port` says so. It answers from threads of its own, so that it tells of a loop that
is blocked instead of being blocked with it. It takes GET and HEAD and keeps no connection. Probes are for everybody and
tell nothing; metrics have names of workflows and tenants in them, and want a token where others than this machine can
ask.
"""

import contextlib
import hmac
import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

import structlog
from pydantic import SecretStr

from tailplane.protocol.errors import TailplaneError
from tailplane.protocol.urls import is_loopback

log = structlog.get_logger(__name__)

# Seconds that a client may be silent, and that it may take for its answer.
_PATIENCE = 5.0
# Seconds that a connection may last in all, which is what Prometheus waits: a client that sends a byte now and then
# would keep its place for hours.
_LONGEST = 10.0
# Requests at once; who comes beyond them is hung up on.
_AT_ONCE = 16
_JSON = "application/json"
_SCHEME = "bearer "


class PortTaken(TailplaneError):
    """The port for probes and metrics can't be opened."""

    code = "port_taken"
    title = "The port for probes and metrics can't be opened"


class MetricsUnguarded(TailplaneError):
    """Others than this machine could read the metrics, and nobody has said that they may."""

    code = "metrics_unguarded"
    title = "Everybody could read the metrics"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a probe.

    Attributes:
        is_good: whether the probe succeeds (200, else 503).
        facts: what the answer says beside it.
    """

    is_good: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Questions:
    """What a program answers, from any thread.

    Attributes:
        live: whether the process should go on; where not, it is to be killed.
        ready: whether it takes work.
        metrics: takes the value of `Accept`; returns a body and its content type.
    """

    live: Callable[[], Verdict]
    ready: Callable[[], Verdict]
    metrics: Callable[[str], tuple[bytes, str]]


class Listener:
    """An open port, from its making until `close`.

    Raises:
        PortTaken: somebody else has it, or the address is none of this machine.
        MetricsUnguarded: no token is set for an address that others reach.
    """

    def __init__(self, host: str, port: int, questions: Questions, token: SecretStr | None = None) -> None:
        """Open the port.

        Args:
            token: what must come with a request for metrics; `none` for nothing; None for nothing where only this
                machine can ask.
        """
        demanded = demanded_token(host, token)
        try:
            self._server = _Server(host, port, questions, demanded)
        except OSError as error:
            raise PortTaken(
                f"can't listen on {host}:{port} for probes and metrics: {error.strerror or error}",
                hint="choose another port with TAILPLANE_METRICS_PORT, or another address with TAILPLANE_METRICS_HOST",
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="listener", daemon=True)
        self._thread.start()
        log.info("answers probes and metrics", host=host, port=port)

    def close(self) -> None:
        """Close the port; what is being answered may go on for a moment."""
        self._server.shutdown()
        self._server.server_close()


def demanded_token(host: str, token: SecretStr | None) -> bytes | None:
    """Return what must come with a request for metrics; None: nothing.

    Raises:
        MetricsUnguarded: no token is set for an address that others reach.
    """
    if token is None and not is_loopback(host):
        raise MetricsUnguarded(
            f"{host} is reached by others, who could read the metrics",
            hint="TAILPLANE_METRICS_TOKEN demands a token of those who ask for /metrics; its value `none` lets "
            "everybody look",
        )
    said = None if token is None else token.get_secret_value()
    return None if said is None or said == "none" else said.encode()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    # Threads that hang on a slow client are not waited for.
    block_on_close = False
    request_queue_size = 32

    def __init__(self, host: str, port: int, questions: Questions, token: bytes | None) -> None:
        self.questions = questions
        self.token = token
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        # When each connection is cut, by the monotonic clock.
        self._ends: dict[socket.socket, float] = {}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._ends[request] = time.monotonic() + _LONGEST
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # No thread is to be had: the place must not be lost with it.
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: socket.socket) -> None:
        del self._ends[request]
        self._free.release()

    def service_actions(self) -> None:
        """Cut connections that last too long. Twice a second."""
        now = time.monotonic()
        for request, end in list(self._ends.items()):
            if end < now:
                # It may have been closed meanwhile.
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if isinstance(error, OSError):
            log.debug("a client went away, or was too slow", reason=str(error))
        else:
            log.error("a probe could not be answered", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server: _Server

    def do_GET(self) -> None:
        questions = self.server.questions
        match self.path.partition("?")[0]:
            case "/livez":
                self._judge(questions.live)
            case "/readyz":
                self._judge(questions.ready)
            case "/metrics" if not self._may_look():
                self._answer(HTTPStatus.UNAUTHORIZED, b"send Authorization: Bearer and a token\n", "text/plain")
            case "/metrics":
                body, media_type = questions.metrics(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, body, media_type)
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"see /livez, /readyz and /metrics\n", "text/plain")

    do_HEAD = do_GET  # noqa: N815 (named by its base class)

    def _may_look(self) -> bool:
        token, said = self.server.token, self.headers.get("Authorization", "")
        if token is None:
            return True
        # Compared in any case, and in constant time.
        sent = said[len(_SCHEME) :].strip() if said[: len(_SCHEME)].lower() == _SCHEME else ""
        return hmac.compare_digest(sent.encode(errors="surrogateescape"), token)

    def _judge(self, ask: Callable[[], Verdict]) -> None:
        verdict = ask()
        status = HTTPStatus.OK if verdict.is_good else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, json.dumps(dict(verdict.facts)).encode() + b"\n", _JSON)

    def _answer(self, status: HTTPStatus, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Bearer realm="metrics"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "tailplane"

    def log_message(self, format: str, *args: object) -> None:
        pass
