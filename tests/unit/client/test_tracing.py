"""An application's trace context goes along with its requests; one that does not trace pays for nothing."""

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tailplane.client import Client, UnknownWorkflow

pytestmark = pytest.mark.anyio

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTEXT = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, True, TraceFlags(1))


async def test_the_present_context_goes_along_with_a_submit(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.answers(wire.task, 202), wire.answers(wire.task, 202))

    with trace.use_span(NonRecordingSpan(CONTEXT)):
        await client.run_workflow("words")
    await client.run_workflow("words")

    inside, outside = server.requests
    assert inside.headers["traceparent"] == PARENT
    assert "traceparent" not in outside.headers


async def test_what_a_submit_raises_comes_through(server: Any, client: Client, wire: Any) -> None:
    server.play(wire.refuses(404, "unknown_workflow"))

    with trace.use_span(NonRecordingSpan(CONTEXT)), pytest.raises(UnknownWorkflow):
        await client.run_workflow("words")


def test_an_application_that_does_not_trace_loads_nothing_of_it() -> None:
    script = """
import sys
from tailplane.client.tracing import submitting, trace_headers
with submitting("words", "http://127.0.0.1:8420") as note_task:
    note_task("t_1")
assert trace_headers() == {}
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"
