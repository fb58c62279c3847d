"""Logging of a server's process: structlog's events and the standard library's records, in one format.

Called by the programs only: an application that embeds `create_app` keeps its own logging.
Inputs, results and events are never logged; tasks appear by their ids.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Literal

import structlog

_SHARED: Sequence[structlog.typing.Processor] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(level: str, form: Literal["console", "json"] | None) -> None:
    """Send all logging of this process to standard error.

    Args:
        level: the least severe messages to keep.
        form: None for `console` where standard error is a terminal, else `json`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is not severe enough costs next to nothing.
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )


def _renderers(form: Literal["console", "json"] | None) -> list[structlog.typing.Processor]:
    if (form or ("console" if sys.stderr.isatty() else "json")) == "console":
        # Plain: the default formatter prints local variables, and inputs are among them.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
