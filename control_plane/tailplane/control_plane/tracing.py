"""Traces in the control plane: the caller's context, the span of a submit's request, and that of the task's queueing.

Whoever has instrumented this application already makes a span of each request: then there is no second one.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind
from starlette.requests import Request
from starlette.responses import Response

from tailplane.broker import TaskRef, tracing
from tailplane.protocol.ids import SessionId
from tailplane.protocol.redaction import mask_credentials

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# What the specification asks every participant to carry, at least.
_MAX_TRACESTATE = 512
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = _KEY + r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
# Checked here: OpenTelemetry would log a warning of each malformed one, in each process that it comes to.
_TRACESTATE = re.compile(rf"{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER}){{0,31}}")


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `traceparent` and `tracestate` of a request, as far as they are there and well-formed.

    Source: W3C Trace Context: a malformed traceparent is ignored, and the tracestate with it.
    """
    parent = headers.get("traceparent", "").strip()
    if not _TRACEPARENT.fullmatch(parent):
        return {}
    state = headers.get("tracestate", "").strip()
    is_carried = len(state) <= _MAX_TRACESTATE and _TRACESTATE.fullmatch(state)
    return {"traceparent": parent} | ({"tracestate": state} if is_carried else {})


@contextmanager
def serving(request: Request, route: str) -> Iterator[Span]:
    """Make the span of a request that is served in a block, where spans are made; `note_answer` says how it ended.

    Args:
        route: the path with its parameters' names.
    """
    if trace.get_current_span().get_span_context().is_valid:
        yield INVALID_SPAN
        return
    attributes = {
        "http.request.method": request.method,
        "http.route": route,
        "url.path": mask_credentials(request.scope["path"]),
        "url.scheme": request.scope["scheme"],
    }
    parent = tracing.context_of(trace_of(request.headers))
    with tracing.span(f"{request.method} {route}", SpanKind.SERVER, attributes, parent) as made:
        yield made


def note_answer(made: Span, response: Response | None) -> None:
    """Note in a request's span how it was answered. A fault of the caller's is none of the server's."""
    if response is not None:
        made.set_attribute("http.response.status_code", response.status_code)
        if response.status_code >= 500:
            tracing.note_error(made, str(response.status_code))


def enqueuing(
    task: TaskRef, workflow: str, session: SessionId | None, caller: Mapping[str, str]
) -> AbstractContextManager[Mapping[str, str]]:
    """Make the span of a task's recording and queueing in a block; yield the context that the record is to keep.

    Args:
        caller: the context that the request came with: kept as it is where no spans are made.
    """
    return _enqueuing(task, workflow, session, caller) if tracing.is_on() else nullcontext(caller)


@contextmanager
def _enqueuing(
    task: TaskRef, workflow: str, session: SessionId | None, caller: Mapping[str, str]
) -> Iterator[Mapping[str, str]]:
    current = trace.get_current_span().get_span_context()
    parent = None if current.is_valid else tracing.context_of(caller)
    attributes = tracing.message("enqueue", "send", workflow, task.task_id, session)
    with tracing.span(f"enqueue {workflow}", SpanKind.PRODUCER, attributes, parent) as made:
        yield tracing.carrier_of(made)
