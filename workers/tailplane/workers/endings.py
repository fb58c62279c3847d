"""How an attempt ends: the move of its task, and what its stream and its record get. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tailplane.broker.tasks import record_fields
from tailplane.protocol import events
from tailplane.protocol.events import PlatformType
from tailplane.protocol.ids import WorkerId
from tailplane.protocol.states import Trigger
from tailplane.workers.descriptions import error_facts


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends.

    Attributes:
        event: the last of its stream, or of its attempt.
        fields: what the record gets, as alternating fields and values.
        delay: the task goes back to the queue, due after it, or is parked; None: the task has ended.
        error: what the attempt failed with, as the Error of PROTOCOL.md 2.
    """

    trigger: Trigger
    event: bytes
    fields: Sequence[bytes | str] = ()
    delay: timedelta | None = None
    error: Mapping[str, Any] | None = None


def succeeded(result: bytes) -> Ending:
    """Return the ending of a workflow that has returned; `result` is packed."""
    return Ending(Trigger.SUCCEED, events.pack_succeeded(result), ["result", result])


def cancelled(reason: str | None) -> Ending:
    """Return the ending of a task that somebody cancelled."""
    return Ending(Trigger.CANCEL, events.pack_platform_event(PlatformType.CANCELLED, {"reason": reason}))


def handed_back(worker: WorkerId) -> Ending:
    """Return the ending of an attempt whose worker stops: another one goes on at once."""
    event = events.pack_platform_event(PlatformType.HANDED_BACK, {"worker_id": worker})
    return Ending(Trigger.HAND_BACK, event, delay=timedelta())


def parked() -> Ending:
    """Return the ending of an attempt that waits for a message longer than its worker's slot is worth."""
    return Ending(Trigger.WAIT, events.pack_platform_event(PlatformType.PARKED, {}), delay=timedelta())


def retried(error: Mapping[str, Any], delay: timedelta) -> Ending:
    """Return the ending of an attempt that failed, and that another one follows."""
    event = events.pack_platform_event(
        PlatformType.RETRYING, {"error": error, "delay_ms": delay // timedelta(milliseconds=1)}
    )
    return Ending(Trigger.RETRY, event, delay=delay, error=error)


def failed(error: dict[str, Any]) -> Ending:
    """Return the ending of a task that has failed for good."""
    event = events.pack_platform_event(PlatformType.FAILED, {"error": error})
    return Ending(Trigger.FAIL, event, record_fields(error), error=error)


def failed_by_platform(code: str, message: str) -> Ending:
    """Return the ending of a task that has failed by no fault of its code."""
    return failed(error_facts(code, "", message))
