"""When a program exports its traces, and how it ends: in a process of its own, for a process has one SDK."""

import json
import socket
import subprocess
import sys
from typing import Any

import pytest

from tailplane.broker.trace_export import FLUSH, wanted_exporters

SCRIPT = """
import json, sys, time
if {without_sdk}:
    sys.modules["opentelemetry.sdk.resources"] = None
from tailplane.broker import trace_export, tracing
from tailplane.broker.logs import configure_logging
from opentelemetry import trace
configure_logging("warning", "json")
end = trace_export.start("tailplane-worker")
with trace.get_tracer("test").start_as_current_span("work") as span:
    resource = dict(span.resource.attributes) if tracing.is_on() else {{}}
begun = time.monotonic()
end()
print(json.dumps({{"on": tracing.is_on(), "took": time.monotonic() - begun, "name": resource.get("service.name")}}))
"""


def run(env: dict[str, str], *, without_sdk: bool = False) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(without_sdk=without_sdk)],
        env={"PYTHONPATH": ":".join(sys.path)} | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    return json.loads(last), done.stderr


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp"]),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ["otlp", "console"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, []),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, []),
    ],
)
def test_the_standard_variables_say_where_traces_go(environ: dict[str, str], names: list[str]) -> None:
    assert wanted_exporters(environ) == names


def test_without_them_there_is_no_sdk() -> None:
    told, log = run({})
    assert (told["on"], log) == (False, "")


def test_a_program_without_the_sdk_says_so_and_runs() -> None:
    told, log = run({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, without_sdk=True)
    assert not told["on"]
    assert "tailplane[otel]" in log


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ({}, "tailplane-worker"),
        ({"OTEL_SERVICE_NAME": "shop"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}, "a"),
    ],
)
def test_a_service_keeps_the_name_that_it_is_given(named: dict[str, str], name: str) -> None:
    told, _ = run({"OTEL_TRACES_EXPORTER": "console"} | named)
    assert (told["on"], told["name"]) == (True, name)


def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told, _ = run({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"})
    assert told["on"]
    assert FLUSH - 0.1 < told["took"] < FLUSH + 3.0


def test_an_exporter_that_is_not_installed_is_told_of_and_ends_nothing() -> None:
    told, log = run({"OTEL_TRACES_EXPORTER": "nonsense"})
    assert not told["on"]
    assert "no traces to this exporter" in json.loads(log)["event"]


def test_a_malformed_header_is_told_of_without_its_key() -> None:
    told, log = run({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_HEADERS": "hunter2"})
    assert told["on"]
    assert "malformed" in log
    assert "hunter2" not in log


def test_numbers_that_do_not_fit_end_nothing() -> None:
    told, log = run({"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "99999"})
    assert not told["on"]
    assert "do not fit" in log
