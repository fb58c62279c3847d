"""Traces across the queue: how a span's context gets into a task's record, and out of it.

Only OpenTelemetry's API is needed here. Who makes spans of it, and where they go, is the SDK's business: `trace_export`
sets one up for the programs. Without one nothing is made, and a caller's context travels on as it came.
Names and attributes follow OpenTelemetry's semantic conventions for messaging and HTTP. Inputs, events, results and the
texts of exceptions never become part of a span.
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

Attributes = Mapping[str, AttributeValue]

_TRACER = trace.get_tracer("tailplane")
# W3C's alone, whatever OTEL_PROPAGATORS says: baggage may hold what must not be stored.
_W3C = TraceContextTextMapPropagator()


def is_on() -> bool:
    """Whether spans are made at all: the program, or who embeds it, has set an SDK up."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(
    name: str,
    kind: SpanKind,
    attributes: Attributes,
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    """Make a span, the current one for the length of a block; what the block raises is noted in it by its class.

    Args:
        parent: None: what is current.
    """
    with _TRACER.start_as_current_span(
        name, parent, kind, attributes, links, record_exception=False, set_status_on_exception=False
    ) as made:
        try:
            yield made
        except Exception as error:
            note_error(made, _name_of(type(error)))
            raise


def message(name: str, kind: str, workflow: str, task_id: str, session_id: str | None) -> dict[str, AttributeValue]:
    """Return the attributes of a span about one task, which is a message to its workflow's queue.

    Args:
        name: our word for what is done.
        kind: the convention's: `send` or `process`.
    """
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "tailplane",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": workflow,
        "messaging.message.id": task_id,
    }
    return attributes | ({"messaging.message.conversation_id": session_id} if session_id else {})


def note_error(made: Span, error_type: str) -> None:
    """Note that what a span stands for has failed."""
    made.set_attribute("error.type", error_type)
    made.set_status(Status(StatusCode.ERROR, error_type))


def note_exception(made: Span, error: BaseException) -> None:
    """Note an exception: its class, and where in the code it was raised. Its text may quote an input."""
    where = "".join(traceback.format_tb(error.__traceback__))
    made.add_event(
        "exception", {"exception.type": _name_of(type(error)), "exception.stacktrace": where, "exception.escaped": True}
    )


def context_of(carrier: Mapping[str, str]) -> Context | None:
    """Return the context that `traceparent` and `tracestate` stand for; None where there is none, or no valid one."""
    there = _W3C.extract(carrier, context=Context())
    return there if trace.get_current_span(there).get_span_context().is_valid else None


def link_to(carrier: Mapping[str, str]) -> Sequence[Link]:
    """Return the link to the span whose context this is; none where it is no valid one."""
    there = context_of(carrier)
    return [] if there is None else [Link(trace.get_current_span(there).get_span_context())]


def carrier_of(made: Span) -> dict[str, str]:
    """Return a span's context as `traceparent` and `tracestate`; empty where it has none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(made, Context()))
    return carrier


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
