"""The spans of a submit, and what of its context the task's record keeps."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tailplane.broker import Broker, TaskRef, tracing

from .conftest import client_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    """An SDK, not the process' own: a process has one, for ever."""
    provider = TracerProvider()
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    monkeypatch.setattr(tracing, "is_on", lambda: True)
    yield provider
    provider.shutdown()


@pytest.fixture
def made(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def by_kind(made: InMemorySpanExporter) -> dict[SpanKind, ReadableSpan]:
    return {span.kind: span for span in made.get_finished_spans()}


def id_of(span: ReadableSpan) -> str:
    return trace.format_span_id(span.get_span_context().span_id)


async def test_the_record_names_the_queueing_below_the_request_below_the_caller(
    http: Any, broker: Broker, fleet: Any, made: InMemorySpanExporter
) -> None:
    await fleet.register(echo={})
    made_task = (await http.post("/v1/tasks", json={"workflow": "echo"}, headers=CALLER)).json()
    record = (await broker.tasks.read_many([TaskRef(made_task["task_id"])], ("state", "trace")))[0]
    spans = by_kind(made)

    assert record is not None
    assert record.trace == {
        "traceparent": f"00-{TRACE}-{id_of(spans[SpanKind.PRODUCER])}-01",
        "tracestate": "vendor=1",
    }
    assert spans[SpanKind.PRODUCER].parent == spans[SpanKind.SERVER].get_span_context()
    parent = spans[SpanKind.SERVER].parent
    assert parent is not None
    assert trace.format_span_id(parent.span_id) == SPAN


@pytest.mark.parametrize("parent", ["nonsense", "ff-" + CALLER["traceparent"][3:], ""])
async def test_a_malformed_context_begins_a_trace_and_is_no_error(
    http: Any, fleet: Any, made: InMemorySpanExporter, parent: str
) -> None:
    await fleet.register(echo={})
    answer = await http.post("/v1/tasks", json={"workflow": "echo"}, headers={"traceparent": parent})

    assert answer.status_code == 202
    assert by_kind(made)[SpanKind.SERVER].parent is None


async def test_a_request_that_has_a_span_gets_no_second_one(
    app: FastAPI, fleet: Any, made: InMemorySpanExporter, provider: TracerProvider
) -> None:
    await fleet.register(echo={})

    async def instrumented(scope: Any, receive: Any, send: Any) -> None:
        with provider.get_tracer("asgi").start_as_current_span("theirs", kind=SpanKind.SERVER):
            await app(scope, receive, send)

    async with client_of(instrumented) as client:  # type: ignore[arg-type]
        assert (await client.post("/v1/tasks", json={"workflow": "echo"}, headers=CALLER)).status_code == 202

    assert sorted(span.name for span in made.get_finished_spans()) == ["enqueue echo", "theirs"]


async def test_a_refusal_is_not_the_server_s_failure(http: Any, made: InMemorySpanExporter) -> None:
    assert (await http.post("/v1/tasks", json={"workflow": "unknown"})).status_code == 404
    (span,) = made.get_finished_spans()

    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/tasks",
        "url.path": "/v1/tasks",
        "url.scheme": "http",
        "http.response.status_code": 404,
    }
    assert span.status.is_unset


async def test_an_input_does_not_get_into_the_spans(http: Any, fleet: Any, made: InMemorySpanExporter) -> None:
    await fleet.register(echo={})
    body = {"workflow": "echo", "input": "hunter2", "metadata": {"key": "hunter2"}}
    assert (await http.post("/v1/tasks", json=body)).status_code == 202

    assert len(made.get_finished_spans()) == 2
    assert all("hunter2" not in span.to_json() for span in made.get_finished_spans())


async def test_reading_has_no_span(http: Any, fleet: Any, made: InMemorySpanExporter) -> None:
    await fleet.register(echo={})
    task = (await http.post("/v1/tasks", json={"workflow": "echo"})).json()["task_id"]
    made.clear()
    await http.get(f"/v1/tasks/{task}")
    await http.get(f"/v1/tasks/{task}/result")

    assert made.get_finished_spans() == ()
