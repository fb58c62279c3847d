"""An application that traces: `traced_client.py URL WORKFLOW INPUT` runs a workflow within a span of its own.

Prints the trace's id and the task's. Exports as the OTEL_* variables say.
"""

import asyncio
import json
import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tailplane.client import Client, SyncClient


async def run(url: str, workflow: str, value: object) -> str:
    async with Client(url) as client:
        task = await client.run_workflow(workflow, value)
        await task.result(timeout=60)
        return task.task_id


def run_blocking(url: str, workflow: str, value: object) -> str:
    with SyncClient(url) as client:
        task = client.run_workflow(workflow, value)
        task.result(timeout=60)
        return task.task_id


def main(url: str, workflow: str, value: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    with trace.get_tracer("app").start_as_current_span("checkout") as span:
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        if workflow == "order":
            task = asyncio.run(run(url, workflow, json.loads(value)))
        else:
            task = run_blocking(url, workflow, json.loads(value))
    provider.shutdown()
    sys.stdout.write(f"{trace_id} {task}\n")


main(*sys.argv[1:])
