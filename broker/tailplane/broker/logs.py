"""Logging of a server's process: structlog's events and the standard library's records, in one format.

Called by the programs only: an application that embeds `create_app` keeps its own logging.
Inputs, results and events are never logged; tasks appear by their ids.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import Any, Literal

import structlog
from opentelemetry import trace
from structlog.typing import Processor

from tailplane.broker.keys import TaskRef
from tailplane.protocol.ids import DEFAULT_TENANT

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


def configure_logging(level: str, form: Literal["console", "json"] | None, *facts: Processor) -> None:
    """Send all logging of this process to standard error.

    Args:
        level: the least severe messages to keep.
        form: None for `console` where standard error is a terminal, else `json`.
        facts: what else each line says of where it comes from.
    """
    shared = (structlog.contextvars.merge_contextvars, _add_facts, _add_trace, *facts, *_COMMON)
    handler = logging.StreamHandler(sys.stderr)
    # The handler's too: where another one wants more, the root's is lowered.
    handler.setLevel(level.upper())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
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


def _renderers(form: Literal["console", "json"] | None) -> list[Processor]:
    if (form or ("console" if sys.stderr.isatty() else "json")) == "console":
        # Plain: the default formatter prints local variables, and inputs are among them.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
