"""What a workflow logs, as events of its stream: `@workflow(log_events="INFO")`.

Records of the `logging` module that are made in an attempt's context, in its threads too, become `task.log` events
between the workflow's own, in the order in which they were made. A call of the log never raises, never waits, and never
takes the room that events need: a record that finds none is dropped, counted, and the next one says how many were.
The loggers of Tailplane itself are left out, and so are a record's `extra` fields and a structured record's values.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog

from tailplane.protocol.events import PlatformType, pack_platform_event
from tailplane.workers.branches import CURRENT
from tailplane.workers.descriptions import cut
from tailplane.workers.emitter import Emitter, is_replayed

log = structlog.get_logger("tailplane.workers")

# Characters of one record's message, and of its exception's text. A stream is read by many, and kept in memory.
MAX_TEXT = 8 * 1024
_OURS = "tailplane"


class LogEvents:
    """Turns what one attempt logs into events.

    Args:
        level: the least severe records to take, as a number of `logging`.
        most: how many records; the others are dropped.
    """

    def __init__(self, emitter: Emitter, level: int, most: int) -> None:
        self.level = level
        self._emitter = emitter
        self._left = most
        # Reentrant: garbage that is collected in the middle of `add` may log, too.
        self._lock = threading.RLock()
        self._dropped = self._told = 0

    def add(self, record: logging.LogRecord) -> None:
        """Append an event that tells of a record. From any thread."""
        facts = _facts(record)
        # One at a time: else a count could be told twice.
        with self._lock:
            if self._left > 0 and self._write(facts):
                self._left -= 1
            else:
                self._dropped += 1

    def drop(self) -> None:
        """Count a record that can't be told."""
        with self._lock:
            self._dropped += 1

    def close(self) -> None:
        """Tell of what was dropped and not told yet. Before the emitter is sealed."""
        with self._lock:
            if self._dropped > self._told:
                said = f"{self._dropped} records of the log are not in this stream"
                self._write({"level": "warning", "logger": _OURS, "message": said})
            if self._dropped:
                log.warning("records of the log are not in the stream", dropped=self._dropped)

    def _write(self, facts: dict[str, Any]) -> bool:
        if missing := self._dropped - self._told:
            facts["dropped"] = missing
        branch = CURRENT.get()
        if is_replayed(branch, self._emitter):
            return True
        if not self._emitter.write_if_roomy(pack_platform_event(PlatformType.LOG, facts), branch):
            return False
        self._told = self._dropped
        return True


_CURRENT: ContextVar[LogEvents | None] = ContextVar("tailplane log events", default=None)


@contextmanager
def collecting(events: LogEvents | None) -> Iterator[None]:
    """Let what is started in a block log into `events`; None: into no stream."""
    token = _CURRENT.set(events)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def install(level: int) -> None:
    """Give records to the attempts that want them, in this process; `level` is the least that any of them wants."""
    root = logging.getLogger()
    root.addHandler(_Handler(level))
    # What the log's own handlers show stays theirs to say.
    root.setLevel(min(level, root.level))


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        events = _CURRENT.get()
        if events is None or record.levelno < events.level or record.name.partition(".")[0] == _OURS:
            return
        try:
            events.add(record)
        except Exception:
            # Such as arguments that do not fit their message: the log's own handler says so, on standard error.
            events.drop()


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    # structlog hands its events over as they are: what stands beside the message is the author's `extra`.
    message = str(record.msg.get("event", "")) if isinstance(record.msg, dict) else record.getMessage()
    texts = {"message": message}
    if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
        texts["exception"] = logging.Formatter().formatException(record.exc_info)
    facts: dict[str, Any] = {"level": record.levelname.lower(), "logger": cut(record.name, MAX_TEXT)}
    facts |= {name: cut(text, MAX_TEXT) for name, text in texts.items()}
    return facts | ({"is_cut": True} if any(len(text) > MAX_TEXT for text in texts.values()) else {})
