from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from tailplane.deploy.cli.progress import (
    Fraction,
    describe,
    describe_age,
    describe_count,
    describe_data,
    describe_delay,
    describe_size,
    progress_of,
)
from tailplane.protocol.events import Event, Kind


class Progress(BaseModel):
    done: int
    total: int


def event(data: Any, type_: str | None = None, **more: Any) -> Event:
    return Event(1, 1, 0.0, data, type_, **more)


@pytest.mark.parametrize(
    ("data", "type_", "fraction"),
    [
        ({"done": 1, "total": 4}, None, Fraction(1, 4)),
        ({"done": 0.5, "total": 1.0, "more": "x"}, None, Fraction(0.5, 1, is_all=False)),
        ({"done": 9, "total": 4}, None, Fraction(4, 4)),
        ({"current": 1, "total": 4}, "Progress", Fraction(1, 4)),
        (Progress(done=2, total=3), "Progress", Fraction(2, 3)),
        ({"current": 1, "total": 4}, None, None),
        ({"done": 1, "total": 0}, None, None),
        ({"done": True, "total": 4}, None, None),
        ({"done": "1", "total": 4}, None, None),
        ({"done": 1}, None, None),
        ({"total": 4}, None, None),
        ("done", None, None),
        ([1, 2], "Progress", None),
        (None, "Progress", None),
    ],
)
def test_progress_is_told_from_other_events(data: Any, type_: str | None, fraction: Fraction | None) -> None:
    assert progress_of(event(data, type_)) == fraction


@pytest.mark.parametrize(
    ("data", "fraction"),
    [
        ({"done": 1, "total": 4}, Fraction(1, 4)),
        ({"done": 9, "total": 4, "text": "pages"}, Fraction(4, 4, text="pages")),
        ({"done": 9}, Fraction(9, None)),
        ({"done": 9, "total": 0}, Fraction(9, None)),
        ({"total": 4}, None),
    ],
)
def test_progress_that_the_platform_tells_may_lack_a_total(data: Any, fraction: Fraction | None) -> None:
    assert progress_of(event(data, "task.progress", kind=Kind.PLATFORM)) == fraction
    assert progress_of(event(data, "task.started", kind=Kind.PLATFORM)) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("hello", "hello"),
        ("a token\n", "a token"),
        ("two\nlines", "two\\nlines"),
        (b"\0" * 1500, "<1,500 bytes>"),
        ({"a": [1, None, True], "ü": b"\0"}, '{"a": [1, null, true], "ü": "<1 bytes>"}'),
        ({"at": datetime(2026, 1, 2, tzinfo=UTC)}, '{"at": "2026-01-02T00:00:00+00:00"}'),
        (3.5, "3.5"),
        (None, "null"),
        (Progress(done=1, total=2), '{"done": 1, "total": 2}'),
    ],
)
def test_what_was_written_fits_in_a_line(data: Any, text: str) -> None:
    assert describe_data(data) == text


def test_type_and_channel_go_before_the_data() -> None:
    assert describe(event("x", "Chunk", channel="stdout")) == "Chunk[stdout] x"


def test_the_terminal_event_leaves_result_and_error_to_what_follows() -> None:
    assert describe(event({"result": "long"}, "task.succeeded", kind=Kind.PLATFORM)) == "task.succeeded"
    assert describe(event({"reason": "enough"}, "task.cancelled", kind=Kind.PLATFORM)) == "task.cancelled enough"
    assert describe(event({"reason": None}, "task.cancelled", kind=Kind.PLATFORM)) == "task.cancelled"


def test_an_attempt_that_failed_is_told_in_a_line_without_its_traceback() -> None:
    error = {"code": "failed", "type": "ValueError", "message": "no\nluck", "traceback": "Traceback ..."}
    retrying = event({"error": error, "delay_ms": 1500}, "task.retrying", kind=Kind.PLATFORM)
    assert describe(retrying) == "task.retrying ValueError: no\\nluck; the next attempt follows in 1.5 s"


@pytest.mark.parametrize(
    ("type_", "data", "text"),
    [
        ("waiting", {"id": "1", "for": "Approval"}, "waiting for Approval"),
        ("waiting", {"id": "1", "for": "go", "until": 604_800.0}, "waiting for go, for 7 d at the most"),
        ("parked", {}, "parked"),
        (
            "checkpoint",
            {"refused": {"number": 1, "type": "Approval", "error": "it does not fit Approval"}},
            "checkpoint message 1 is not taken: it does not fit Approval",
        ),
        ("checkpoint", {"state": ["next"]}, 'checkpoint {"state": ["next"]}'),
        (
            "step_retrying",
            {"id": "0", "step": "draft", "error": {"type": "E", "message": "no\nluck"}, "delay_ms": 500},
            "step_retrying draft: E: no\\nluck; the next try follows in 0.5 s",
        ),
    ],
)
def test_what_a_task_waits_for_and_tries_again_is_told_in_words(type_: str, data: Any, text: str) -> None:
    assert describe(event(data, f"task.{type_}", kind=Kind.PLATFORM)) == f"task.{text}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0012, "1.2 ms"), (0.0999, "99.9 ms"), (0.25, "250 ms"), (1.5, "1,500 ms"), (-0.01, "-10.0 ms")],
)
def test_delays_are_in_milliseconds(seconds: float, text: str) -> None:
    assert describe_delay(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (59.94, "59.9 s"), (90, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_ages_are_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert describe_age(seconds) == text


def test_one_is_no_plural_and_little_is_not_nothing() -> None:
    assert [describe_count(count, "file") for count in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]
    assert [describe_size(size) for size in (1, 412, 12_345)] == ["1 byte", "412 bytes", "12 kB"]
