"""Logging of a server's process: structlog's events and the standard library's records, in one format.

Called by the programs only: an application that embeds `create_app` keeps its own logging.
Inputs, results and events are never logged; tasks appear by their ids. What looks like a secret all the same, in what
libraries and workflows log and in tracebacks too, is masked: see `protocol.redaction`.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import Any, Literal, TextIO

import structlog
from opentelemetry import trace
from structlog.typing import Processor

from tailplane.broker.keys import TaskRef
from tailplane.protocol.ids import DEFAULT_TENANT
from tailplane.protocol.redaction import redact, redact_values

_FACTS: ContextVar[Mapping[str, object]] = ContextVar("tailplane facts", default=MappingProxyType({}))

_COMMON: Sequence[Processor] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class Facts:
    """What every line of the log bears that is written in a block, or in what is started there.

    structlog's own way to bind looks through the whole context each time, and costs several times as much.
    """

    __slots__ = ("_facts", "_token")

    def __init__(self, **facts: object) -> None:
        self._facts = facts

    def __enter__(self) -> None:
        self._token = _FACTS.set({**_FACTS.get(), **self._facts})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _FACTS.reset(self._token)


def whose(task: TaskRef) -> dict[str, object]:
    """Return what a line of the log says of a task: its id, and its tenant where that is not the default one.

    Most deployments have no other, and their lines stay as they were.
    """
    return {"task_id": task.task_id} | ({} if task.tenant == DEFAULT_TENANT else {"tenant": task.tenant})


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to standard error; of a line that can't be made, it says no more than that."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name is that of `logging`
        """Name the line; the standard library's own prints its arguments, whatever they are."""
        error = sys.exc_info()[0]
        with suppress(OSError, ValueError):
            self.stream.write(f"{record.pathname}:{record.lineno}: a line of the log can't be made: {error}\n")


def configure_logging(level: str, form: Literal["console", "json"] | None, *facts: Processor) -> None:
    """Send all logging of this process to standard error.

    Args:
        level: the least severe messages to keep.
        form: None for `console` where standard error is a terminal, else `json`.
        facts: what else each line says of where it comes from.
    """
    shared = (structlog.contextvars.merge_contextvars, _add_facts, _add_trace, *facts, *_COMMON)
    handler = _Handler(sys.stderr)
    # The handler's too: where another one wants more, the root's is lowered.
    handler.setLevel(level.upper())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(form),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is not severe enough costs next to nothing.
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )


def _add_facts(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in _FACTS.get().items():
        event.setdefault(name, value)
    return event


def _add_trace(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _redact_values(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # The renderer's to show, where it is still there.
    exc_info = event.pop("exc_info", None)
    redact_values(event)
    if exc_info is not None:
        event["exc_info"] = exc_info
    return event


def _redact_line(_logger: object, _name: str, line: Any) -> str:
    return redact(str(line))


def _renderers(form: Literal["console", "json"] | None) -> list[Processor]:
    if (form or ("console" if sys.stderr.isatty() else "json")) == "console":
        # Plain: the default formatter prints local variables, and inputs are among them.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        # The traceback is text only when the line is.
        return [_redact_values, console, _redact_line]
    return [structlog.processors.format_exc_info, _redact_values, structlog.processors.JSONRenderer()]
