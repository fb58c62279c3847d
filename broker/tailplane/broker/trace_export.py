"""Sets OpenTelemetry's SDK up for a program, as the standard OTEL_* variables say, and flushes it at the program's end.

The extra `otel` brings the SDK and the OTLP exporter. Spans are sent by a thread of the SDK's own, in batches: nothing
here holds up a loop. Who has set a provider up before (an application that embeds a program, opentelemetry-instrument)
keeps it, and sees to its end.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points, version
from typing import Any

import structlog
from opentelemetry import trace

from tailplane.broker import tracing

log = structlog.get_logger("tailplane.broker")

# Seconds: what is not sent by then is lost. A collector that is away must not hold up a deployment.
FLUSH = 2.0

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def wanted_exporters(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the exporters that the environment asks for; none, where it asks for no traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    # By the specification `otlp` is the default; without an address it would only knock at a closed door.
    default = "otlp" if any(environ.get(name) for name in _ENDPOINTS) else "none"
    names = (environ.get("OTEL_TRACES_EXPORTER") or default).split(",")
    return [name.strip() for name in names if name.strip() not in ("", "none")]


def start(service: str) -> Callable[[], None]:
    """Begin to export spans, if the environment wants it; return what flushes them and ends it, within `FLUSH` seconds.

    Args:
        service: the `service.name`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES give one.
    """
    names = wanted_exporters(os.environ)
    if not names or tracing.is_on():
        return lambda: None
    logging.getLogger("opentelemetry.util.re").addFilter(_without_headers)
    try:
        provider = _provider(service, names)
    except ImportError:
        log.warning("no traces: the SDK is not installed", remedy="pip install 'tailplane[otel]'", exporters=names)
        return lambda: None
    except Exception as error:
        # Such as numbers that do not fit together: no reason not to run.
        log.error("no traces: the OTEL_* variables do not fit", reason=type(error).__name__)
        return lambda: None
    if provider is None:
        return lambda: None
    trace.set_tracer_provider(provider)
    log.info("traces are exported", exporters=names)
    return lambda: _within(FLUSH, provider.shutdown)


def _without_headers(record: logging.LogRecord) -> bool:
    """Let the SDK complain of a malformed header without showing it: it is mostly a key."""
    record.msg, record.args = "a header in OTEL_EXPORTER_OTLP_HEADERS is malformed, and left out", ()
    return True


def _provider(service: str, names: Sequence[str]) -> Any:
    """Return a provider that exports to all of these that are installed; None where none is."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    ours = {"service.version": version("tailplane")} | ({} if named else {"service.name": service})
    exporters = [exporter for name in names if (exporter := _exporter(name)) is not None]
    if not exporters:
        return None
    provider = TracerProvider(resource=Resource.create(ours), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(name: str) -> Any:
    """Return an exporter by its name; None where it is not installed, which the log then says."""
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    found = next(iter(entry_points(group="opentelemetry_traces_exporter", name=name)), None)
    if found is None:
        log.warning("no traces to this exporter: it is not installed", exporter=name)
        return None
    return found.load()()


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do some work, but return after so many seconds at the latest."""
    thread = threading.Thread(target=work, name="trace flush", daemon=True)
    thread.start()
    thread.join(seconds)
