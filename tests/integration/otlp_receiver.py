"""A collector of OpenTelemetry's protocol over HTTP, as far as traces go: keeps what programs export to it."""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class ReceivedSpan(NamedTuple):
    """A span as it came: ids in hexadecimal, `parent` empty for a root; `kind` and `failed` as OTLP has them."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    events: list[dict[str, Any]]


class OtlpReceiver:
    """The collector, at `url`. `raw` has every request's body as it came, unpacked."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.raw.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def spans(self) -> list[ReceivedSpan]:
        return [span for body in list(self.raw) for span in _spans(body)]

    def until(self, count: int, trace: str, patience: float = 30.0) -> list[ReceivedSpan]:
        """Return a trace's spans as soon as there are so many."""
        deadline = time.monotonic() + patience
        while len(found := [span for span in self.spans() if span.trace == trace]) < count:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


def _spans(body: bytes) -> list[ReceivedSpan]:
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _table(resource.resource.attributes)["service.name"]
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            found.append(
                ReceivedSpan(
                    service,
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _table(span.attributes),
                    [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    [{"name": event.name} | _table(event.attributes) for event in span.events],
                )
            )
    return found


def _table(attributes: Any) -> dict[str, Any]:
    return {each.key: _plain(each.value) for each in attributes}


def _plain(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
