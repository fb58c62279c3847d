"""What an event says about progress, and how an event looks as a line of text. Pure."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from tailplane.protocol.events import Event, Kind, PlatformType

_DONE = ("done", "current", "completed")


@dataclass(frozen=True, slots=True)
class Fraction:
    """How far something is.

    Attributes:
        done: at most `total`.
        total: more than 0; None: not known.
        is_all: the event says nothing that a bar does not show.
        text: what is being done; None: nothing was said of that.
    """

    done: float
    total: float | None
    is_all: bool = True
    text: str | None = None


def progress_of(event: Event) -> Fraction | None:
    """Return how far the workflow is, if the event says so.

    It does as a `task.progress`, and as an object with numbers `done` and `total` that the workflow wrote; one of the
    type `Progress` may also call the first one `current` or `completed`.
    """
    if event.kind == Kind.PLATFORM:
        return _told(event.data) if event.type == PlatformType.PROGRESS else None
    data = event.data.model_dump() if isinstance(event.data, BaseModel) else event.data
    if not isinstance(data, dict):
        return None
    names = _DONE if event.type == "Progress" else _DONE[:1]
    done = _number(next((data[name] for name in names if name in data), None))
    total = _number(data.get("total"))
    if done is None or total is None or total <= 0:
        return None
    return Fraction(min(done, total), total, is_all=len(data) == 2)


def _told(data: Any) -> Fraction | None:
    done, total = _number(data.get("done")), _number(data.get("total"))
    if done is None:
        return None
    text = str(data["text"]) if data.get("text") else None
    if total is None or total <= 0:
        return Fraction(done, None, text=text)
    return Fraction(min(done, total), total, text=text)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def describe(event: Event) -> str:
    """Return an event's content in one line: who says it, and what."""
    label = event.type or ""
    if event.channel:
        label = f"{label}[{event.channel}]"
    if event.is_terminal:
        # The result and the error follow after the last line, where there is room for them.
        reason = event.data.get("reason") if isinstance(event.data, dict) else None
        return f"{label} {reason or ''}".strip()
    match event.data:
        case {"error": {"type": kind, "message": message}, "delay_ms": delay} if event.type == "task.retrying":
            # Its traceback is for those who read the task's JSON.
            said = f"{kind}: {message}".replace("\n", "\\n")
            return f"{label} {said}; the next attempt follows in {describe_age(delay / 1000)}"
        case {"step": step, "error": {"type": kind, "message": message}, "delay_ms": delay} if (
            event.type == "task.step_retrying"
        ):
            said = f"{kind}: {message}".replace("\n", "\\n")
            return f"{label} {step}: {said}; the next try follows in {describe_age(delay / 1000)}"
        case {"for": wanted, "until": int() | float() as until} if event.type == "task.waiting":
            return f"{label} for {wanted}, for {describe_age(until - event.time)} at the most"
        case {"for": wanted} if event.type == "task.waiting":
            return f"{label} for {wanted}"
        case {"refused": {"number": number, "error": why}} if event.type == "task.checkpoint":
            return f"{label} message {number} is not taken: {describe_data(why)}"
        case {} if event.type == "task.parked":
            return label
        case {"level": level, "logger": logger, "message": message} if event.type == "task.log":
            return f"{level} {logger}: {describe_data(message)}"
        case {"done": done, **more} if event.type == "task.progress":
            of = f" of {more['total']}" if more.get("total") is not None else ""
            said = f": {describe_data(more['text'])}" if more.get("text") else ""
            return f"{label} {done}{of}{said}"
    return f"{label} {describe_data(event.data)}".strip()


def describe_data(data: Any) -> str:
    """Return what was written in one line: text as it is, bytes by their size, the rest as JSON."""
    if isinstance(data, BaseModel):
        data = data.model_dump()
    match data:
        case str():
            return data.replace("\n", "\\n") if "\n" in data.rstrip("\n") else data.rstrip("\n")
        case bytes():
            return f"<{len(data):,} bytes>"
        case _:
            return json.dumps(data, ensure_ascii=False, default=_unknown)


def _unknown(value: object) -> str:
    match value:
        case bytes():
            return f"<{len(value):,} bytes>"
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


def describe_delay(seconds: float) -> str:
    """Return a delay in milliseconds, as exact as it means something."""
    milliseconds = seconds * 1000
    return f"{milliseconds:,.1f} ms" if abs(milliseconds) < 100 else f"{milliseconds:,.0f} ms"


def describe_age(seconds: float) -> str:
    """Return a duration as a person would say it: 4.2 s, 3 min, 5 h, 2 d."""
    for limit, unit, size in ((60, "s", 1), (3600, "min", 60), (86400, "h", 3600)):
        if seconds < limit:
            return f"{seconds:.1f} s" if unit == "s" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def describe_count(count: int, noun: str) -> str:
    """Return a count with its noun, which takes an s for more than one: 1 file, 2,000 files."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def describe_size(size_bytes: int) -> str:
    """Return a size in bytes or kilobytes, never as nothing."""
    return describe_count(size_bytes, "byte") if size_bytes < 1000 else f"{size_bytes / 1000:,.0f} kB"
