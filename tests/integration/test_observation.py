"""One task's way through the programs, seen from outside: in a trace, and in their logs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tailplane.client import SyncClient
from tailplane.deploy.cluster import LocalCluster, Plan

from .otlp_receiver import OtlpReceiver, ReceivedSpan

HERE = Path(__file__).parent
CARD = "hunter2-4111"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


class Stage(NamedTuple):
    """A cluster that exports its traces to a collector."""

    cluster: LocalCluster
    collector: OtlpReceiver


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with OtlpReceiver() as collector:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "TAILPLANE_LOG_LEVEL": "debug",
            "TAILPLANE_LOG_FORMAT": "json",
        }
        with LocalCluster(Plan(target=str(HERE / "observed_workflows.py"), env=env)) as cluster:
            yield Stage(cluster, collector)


def submit(stage: Stage, workflow: str, value: object) -> tuple[str, str]:
    """Run a workflow to its end from an application that traces; return the ids of the trace and of the task."""
    done = subprocess.run(
        [sys.executable, str(HERE / "traced_client.py"), stage.cluster.url, workflow, json.dumps(value)],
        env=os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": stage.collector.url, "OTEL_SERVICE_NAME": "app"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trace, task = done.stdout.split()
    return trace, task


def log_of(stage: Stage, process: str) -> list[dict[str, Any]]:
    lines = (stage.cluster.log_dir / f"{process}.log").read_text().splitlines()
    return [json.loads(line) for line in lines]


def attempts(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    return sorted((s for s in spans if s.name.startswith("run ")), key=lambda s: s.attributes["tailplane.attempt"])


@pytest.fixture(scope="module")
def order(stage: Stage) -> tuple[str, str, list[ReceivedSpan]]:
    """The ids of a trace and of its task, and its spans."""
    trace, task = submit(stage, "order", CARD)
    return trace, task, stage.collector.until(8, trace)


def test_a_trace_goes_through_all_processes(order: tuple[str, str, list[ReceivedSpan]]) -> None:
    _, task, spans = order
    ids = {span.id: span for span in spans}
    told = {(s.service, s.name, s.kind, ids[s.parent].name if s.parent else None) for s in spans}

    assert told == {
        ("app", "checkout", 1, None),
        ("app", "submit order", CLIENT, "checkout"),
        ("tailplane-control-plane", "POST /v1/tasks", SERVER, "submit order"),
        ("tailplane-control-plane", "enqueue order", PRODUCER, "POST /v1/tasks"),
        ("tailplane-worker", "run order", CONSUMER, "enqueue order"),
        ("tailplane-worker", "charge", 1, "run order"),
    }
    about_the_task = [s for s in spans if "messaging.system" in s.attributes]
    assert {s.attributes["messaging.message.id"] for s in about_the_task} == {task}
    assert {s.attributes["messaging.destination.name"] for s in about_the_task} == {"order"}
    assert [s.attributes["http.response.status_code"] for s in spans if s.kind == SERVER] == [202]


def test_a_later_attempt_is_linked_to_the_one_before(order: tuple[str, str, list[ReceivedSpan]]) -> None:
    trace, _, spans = order
    first, second = attempts(spans)

    assert (first.attributes["tailplane.outcome"], second.attributes["tailplane.outcome"]) == ("retry", "succeed")
    assert (first.failed, first.attributes["error.type"], second.failed) == (True, "builtins.ConnectionError", False)
    assert (first.links, second.links) == ([], [(trace, first.id)])
    assert {s.parent for s in spans if s.name == "charge"} == {first.id, second.id}
    assert all(span.attributes["tailplane.queue_wait_ms"] >= 0 for span in (first, second))


def test_a_failed_attempt_says_where_but_not_what(stage: Stage, order: tuple[str, str, list[ReceivedSpan]]) -> None:
    first, _ = attempts(order[2])
    (exception,) = first.events

    assert exception["exception.type"] == "ConnectionError"
    assert "observed_workflows.py" in exception["exception.stacktrace"]
    # Input, event and result all name it. (The workflow's own span records its own exception: that is the author's.)
    ours = [span for span in order[2] if span.name != "charge"]
    assert CARD not in repr(ours)


@pytest.mark.parametrize(("workflow", "span"), [("in_a_thread", "blocking"), ("one_by_one", "yielding")])
def test_a_workflow_s_own_spans_nest_in_threads_and_generators(stage: Stage, workflow: str, span: str) -> None:
    trace, _ = submit(stage, workflow, None)
    spans = stage.collector.until(6, trace)
    (own,) = [s for s in spans if s.name == span]
    (attempt,) = attempts(spans)

    assert own.parent == attempt.id
    # Through the blocking client, whose requests are made on a thread of its own.
    assert {s.name for s in spans} == {
        "checkout", f"submit {workflow}", "POST /v1/tasks", f"enqueue {workflow}", f"run {workflow}", span
    }  # fmt: skip


def test_every_line_about_an_attempt_says_whose_it_is(stage: Stage, order: tuple[str, str, list[ReceivedSpan]]) -> None:
    trace, task, spans = order
    worker_ids = {s.attributes["messaging.client.id"] for s in attempts(spans)}
    lines = [line for line in log_of(stage, "worker-1") if line.get("task_id") == task]
    told = [(line["event"], line["attempt"], line["level"]) for line in lines]

    assert told == [
        ("attempt started", 1, "debug"),
        ("charging, attempt 1", 1, "info"),
        ("attempt failed", 1, "info"),
        ("attempt ended", 1, "debug"),
        ("attempt started", 2, "debug"),
        ("charging, attempt 2", 2, "info"),
        ("attempt ended", 2, "debug"),
    ]
    assert {line["workflow"] for line in lines} == {"order"}
    assert {line["worker_id"] for line in lines} == worker_ids
    assert {line["trace_id"] for line in lines} == {trace}
    by_span = {span.id: span.name for span in spans}
    assert {(line["logger"], by_span[line["span_id"]]) for line in lines} == {
        ("tailplane.workers", "run order"),
        ("shop.orders", "charge"),
    }


def test_a_line_about_a_request_says_which(stage: Stage, order: tuple[str, str, list[ReceivedSpan]]) -> None:
    trace, task, _ = order
    (line,) = [line for line in log_of(stage, "control-plane") if line.get("task_id") == task]

    assert (line["event"], line["method"], line["route"]) == ("task queued", "POST", "/v1/tasks")
    assert (line["trace_id"], line["workflow"]) == (trace, "order")


@pytest.mark.parametrize("workflow", ["in_a_thread", "one_by_one"])
def test_what_threads_of_a_workflow_log_says_whose_it_is(stage: Stage, workflow: str) -> None:
    trace, task = submit(stage, workflow, None)
    (line,) = [
        line for line in log_of(stage, "worker-1") if line["logger"] == "shop.orders" and line["task_id"] == task
    ]

    assert (line["workflow"], line["attempt"], line["trace_id"]) == (workflow, 1, trace)


def test_inputs_events_and_results_are_not_logged(stage: Stage, order: object) -> None:
    del order
    for log in stage.cluster.log_dir.iterdir():
        assert CARD not in log.read_text(), log


def test_spans_that_wait_are_sent_when_a_program_ends() -> None:
    with OtlpReceiver() as collector:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        with LocalCluster(Plan(target=str(HERE / "observed_workflows.py"), env=env)) as cluster:
            with SyncClient(cluster.url) as client:
                client.run_workflow("in_a_thread").result(timeout=60)
            assert collector.raw == []
        assert {(span.service, span.name) for span in collector.spans()} == {
            ("tailplane-control-plane", "POST /v1/tasks"),
            ("tailplane-control-plane", "enqueue in_a_thread"),
            ("tailplane-worker", "run in_a_thread"),
            ("tailplane-worker", "blocking"),
        }
