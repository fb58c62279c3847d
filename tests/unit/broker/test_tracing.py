"""What becomes of a caller's trace context, and what a span says."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tailplane.broker import tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that were made, by an SDK that is not the process' own."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def test_without_an_sdk_nothing_is_on() -> None:
    assert not tracing.is_on()


def test_without_an_sdk_a_context_passes_through_as_it_came() -> None:
    with tracing.span("run", SpanKind.CONSUMER, {}, tracing.context_of(CALLER)) as span:
        assert not span.is_recording()
        assert tracing.carrier_of(span) == CALLER
        assert trace.get_current_span() is span


@pytest.mark.parametrize(
    "carrier",
    [
        {},
        {"traceparent": ""},
        {"traceparent": "nonsense"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"tracestate": "a=1"},
    ],
)
def test_what_is_no_context_stands_for_none(carrier: dict[str, str]) -> None:
    assert tracing.context_of(carrier) is None
    assert tracing.link_to(carrier) == []


def test_a_span_continues_the_caller_s_trace(made: InMemorySpanExporter) -> None:
    with tracing.span("run", SpanKind.CONSUMER, {"n": 1}, tracing.context_of(CALLER), tracing.link_to(CALLER)) as span:
        carrier = tracing.carrier_of(span)
    (done,) = made.get_finished_spans()
    assert done.parent is not None
    assert trace.format_span_id(done.parent.span_id) == SPAN
    assert carrier["traceparent"].startswith(f"00-{TRACE}-")
    assert carrier["tracestate"] == "vendor=1"
    assert [trace.format_span_id(link.context.span_id) for link in done.links] == [SPAN]


def test_what_a_caller_does_not_sample_is_not_sampled(made: InMemorySpanExporter) -> None:
    parent = tracing.context_of({"traceparent": f"00-{TRACE}-{SPAN}-00"})
    with tracing.span("run", SpanKind.CONSUMER, {}, parent) as span:
        assert tracing.carrier_of(span)["traceparent"].endswith("-00")
    assert made.get_finished_spans() == ()


def test_an_exception_is_noted_without_its_text(made: InMemorySpanExporter) -> None:
    secret = "hunter2"
    with pytest.raises(LookupError), tracing.span("run", SpanKind.CONSUMER, {}, Context()) as span:
        try:
            raise LookupError(secret)
        except LookupError as error:
            tracing.note_exception(span, error)
            raise
    (done,) = made.get_finished_spans()
    assert "hunter2" not in done.to_json()
    assert (done.attributes or {})["error.type"] == "LookupError"
    assert not done.status.is_ok
    assert "test_tracing.py" in str((done.events[0].attributes or {})["exception.stacktrace"])
