"""Traces in the application: the span of a submit, and the header that takes the present context along.

Nothing is imported that the application has not: who traces has OpenTelemetry's API loaded, and for all others a look
for it is the whole cost. The header is W3C's; baggage is not sent.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import Any

import httpx2

_API = "opentelemetry.trace"


def submitting(workflow: str, url: str) -> AbstractContextManager[Callable[[str], None]]:
    """Make the span of a submit, the current one for the length of a block; yield what notes the id of its task."""
    trace = _tracing()
    return nullcontext(_ignore) if trace is None else _submitting(workflow, url, trace)


@contextmanager
def _submitting(workflow: str, url: str, trace: Any) -> Iterator[Callable[[str], None]]:
    where = httpx2.URL(url)
    attributes: dict[str, str | int] = {
        "messaging.system": "tailplane",
        "messaging.operation.name": "submit",
        "messaging.operation.type": "send",
        "messaging.destination.name": workflow,
        "server.address": where.host,
        "server.port": where.port or (443 if where.scheme == "https" else 80),
    }
    # What an exception says may quote the input: its class is enough.
    with trace.get_tracer("tailplane").start_as_current_span(
        f"submit {workflow}",
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield lambda task_id: span.set_attribute("messaging.message.id", task_id)
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__qualname__))
            raise


def trace_headers() -> dict[str, str]:
    """Return `traceparent` and `tracestate` of the present span; empty where there is none."""
    headers: dict[str, str] = {}
    if _API in sys.modules:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def _tracing() -> ModuleType | None:
    """Return OpenTelemetry's API where the application makes spans."""
    if _API not in sys.modules:
        return None
    from opentelemetry import trace

    return None if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider) else trace


def _ignore(_: str) -> None:
    pass
