"""The span of one attempt: where a workflow's own spans hang in the trace of its task.

Its parent is what the task's record names: the queueing, or the caller where the control plane makes no spans. An
attempt that follows one that was given back is linked to it.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind

from tailplane.broker import Begun, Claim, tracing

_OUTCOME = "tailplane.outcome"


def attempting(begun: Begun, claim: Claim) -> AbstractContextManager[Span]:
    """Make the span of an attempt, the current one for the length of a block.

    Where nothing makes spans, the caller's context is current all the same: a workflow's requests carry it on.
    """
    record = begun.record
    if not (record.trace or record.given_back_trace or tracing.is_on()):
        return nullcontext(INVALID_SPAN)
    return _attempting(begun, claim)


@contextmanager
def _attempting(begun: Begun, claim: Claim) -> Iterator[Span]:
    record = begun.record
    before = {"traceparent": record.given_back_trace} if record.given_back_trace else {}
    # A task that came without a context has all its attempts in the first one's trace.
    carrier = record.trace or before
    attributes = tracing.message("run", "process", record.workflow, record.task_id, record.session_id) | {
        "messaging.client.id": record.worker_id or "",
        "tailplane.attempt": begun.attempt,
        "tailplane.queue_wait_ms": claim.waited // timedelta(milliseconds=1),
        # Until somebody knows better: who has lost the task can't end it.
        _OUTCOME: "lost",
    }
    parent = tracing.context_of(carrier) or Context()
    with tracing.span(f"run {record.workflow}", SpanKind.CONSUMER, attributes, parent, tracing.link_to(before)) as made:
        yield made


def note_outcome(made: Span, outcome: str, error: Mapping[str, str] | None) -> None:
    """Note how an attempt ended.

    Args:
        outcome: `succeed`, `fail`, `retry`, `hand_back` or `cancel`.
        error: the Error of PROTOCOL.md 2 that it failed with; its message stays out of the trace.
    """
    made.set_attribute(_OUTCOME, outcome)
    if error is not None:
        tracing.note_error(made, error["type"] or error["code"])


def given_back_fields(made: Span) -> list[bytes | str]:
    """Return what the record of a task keeps of the attempt that gives it back, as field and value."""
    parent = tracing.carrier_of(made).get("traceparent")
    return ["given_back_trace", parent] if parent else []
