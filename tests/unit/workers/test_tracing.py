"""The span of an attempt, in each way that an attempt may end."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tailplane.broker import NewTask, TaskRef, tracing
from tailplane.protocol import codec
from tailplane.protocol.ids import new_task_id, new_worker_id
from tailplane.workers import Context
from tailplane.workers.attempt import Stop
from tailplane.workers.workflow import Workflow

from .conftest import PATIENCE, Bench

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Seen = list[str]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that were made, by an SDK that is not the process' own."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    monkeypatch.setattr(tracing, "is_on", lambda: True)
    yield exporter
    provider.shutdown()


def outcomes(made: InMemorySpanExporter) -> list[tuple[object, object]]:
    spans = [span.attributes or {} for span in made.get_finished_spans()]
    return [(span["tailplane.outcome"], span.get("error.type")) for span in spans]


def id_of(span: ReadableSpan) -> str:
    return trace.format_span_id(span.get_span_context().span_id)


async def stopped(bench: Bench, workflow: Workflow, why: Stop) -> None:
    """Run an attempt that is stopped once it has begun."""
    await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    running = asyncio.ensure_future(attempt.run())
    async with asyncio.timeout(PATIENCE):
        while attempt._run is None:
            await asyncio.sleep(0.01)
        attempt.stop(why)
        await running


async def endless(ctx: Context) -> None:
    await asyncio.sleep(PATIENCE)


@pytest.mark.parametrize(
    ("why", "outcome", "error"),
    [
        (Stop.CANCELLED, "cancel", None),
        (Stop.DRAINED, "hand_back", None),
        (Stop.TIMED_OUT, "fail", "builtins.TimeoutError"),
        (Stop.LOST, "lost", None),
    ],
)
async def test_a_span_says_how_its_attempt_was_stopped(
    bench: Bench, made: InMemorySpanExporter, why: Stop, outcome: str, error: str | None
) -> None:
    await stopped(bench, bench.workflow(endless), why)
    assert outcomes(made) == [(outcome, error)]


async def test_an_attempt_that_finds_its_task_in_other_hands_is_lost(bench: Bench, made: InMemorySpanExporter) -> None:
    begun, taken = asyncio.Event(), asyncio.Event()

    async def flow(ctx: Context) -> None:
        bench_loop.call_soon_threadsafe(begun.set)
        await asyncio.to_thread(asyncio.run_coroutine_threadsafe(taken.wait(), bench_loop).result, PATIENCE)

    bench_loop = asyncio.get_running_loop()
    workflow = bench.workflow(flow)
    task = await bench.submit(workflow)
    attempt = await bench.attempt(workflow)
    running = asyncio.ensure_future(attempt.run())
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        await bench.broker.tasks.begin(task, new_worker_id(), "host-2")
        taken.set()
        await running
    assert outcomes(made) == [("lost", None)]


async def test_a_task_without_a_caller_s_context_has_all_its_attempts_in_one_trace(
    bench: Bench, made: InMemorySpanExporter
) -> None:
    async def flow(ctx: Context) -> None:
        if ctx.attempt < 3:
            raise LookupError(f"not in attempt {ctx.attempt}")

    workflow = bench.workflow(flow, retries=2, retry_delay=timedelta(0))
    task = await bench.submit(workflow)
    for _ in range(3):
        await bench.run(workflow)

    first, second, third = made.get_finished_spans()
    assert [outcome for outcome, _ in outcomes(made)] == ["retry", "retry", "succeed"]
    assert {span.get_span_context().trace_id for span in (second, third)} == {first.get_span_context().trace_id}
    assert first.parent is None
    assert [[trace.format_span_id(link.context.span_id) for link in span.links] for span in (first, second, third)] == [
        [], [id_of(first)], [id_of(second)]
    ]  # fmt: skip
    assert (await bench.record(task)).trace == {}


async def test_without_an_sdk_the_caller_s_context_is_current_in_the_workflow(bench: Bench) -> None:
    seen: Seen = []

    async def flow(ctx: Context) -> None:
        seen.append(tracing.carrier_of(trace.get_current_span()).get("traceparent", ""))

    workflow = bench.workflow(flow)
    await bench.register()
    for carrier in ({"traceparent": PARENT}, {}, {"traceparent": "nonsense"}):
        task = TaskRef(new_task_id())
        await bench.broker.tasks.create(NewTask(task, workflow.name, "1", codec.pack(None), trace=carrier))
        await bench.broker.queue.enqueue(task, workflow.name)
        await bench.run(workflow)
        assert (await bench.record(task)).state == "succeeded"
    assert seen == [PARENT, "", ""]
