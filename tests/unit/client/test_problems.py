import json
from datetime import UTC, datetime

import pytest

from tailplane.client.problems import error_of, retry_after
from tailplane.protocol.errors import (
    LONGEST_WAIT,
    InvalidInput,
    QueueFull,
    RequestError,
    TailplaneError,
    TaskGone,
    Unavailable,
)

URL = "http://control-plane/v1/tasks"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_problem_document_becomes_its_class_with_its_facts() -> None:
    body = json.dumps({"code": "invalid_input", "detail": "no", "hint": "try", "errors": [{"loc": ["a"], "msg": "b"}]})

    error = error_of(422, {}, body.encode(), URL)

    assert type(error) is InvalidInput
    assert (error.detail, error.hint, error.facts["errors"]) == ("no", "try", [{"loc": ["a"], "msg": "b"}])
    assert type(error_of(410, {}, b'{"code": "task_gone"}', URL)) is TaskGone


def test_the_header_says_when_to_come_back() -> None:
    error = error_of(429, {"retry-after": "7"}, b'{"code": "queue_full", "retry_after": 3.5}', URL)
    assert isinstance(error, QueueFull)
    assert error.retry_after == 7

    error = error_of(429, {}, b'{"code": "queue_full", "retry_after": 3.5}', URL)
    assert isinstance(error, QueueFull)
    assert error.retry_after == 3.5

    rounded_up = error_of(429, {"retry-after": "4"}, b'{"code": "queue_full", "retry_after": 3.5}', URL)
    assert isinstance(rounded_up, QueueFull)
    assert rounded_up.retry_after == 3.5


def test_a_full_queue_says_how_full_it_is() -> None:
    error = error_of(429, {}, b'{"code": "queue_full", "depth": 12, "limit": 10}', URL)

    assert isinstance(error, QueueFull)
    assert (error.depth, error.limit) == (12, 10)


@pytest.mark.parametrize(("status", "kind"), [(404, RequestError), (502, Unavailable), (500, TailplaneError)])
@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"", b"[]", b'{"detail": "Not Found"}', b"\xff"])
def test_an_answer_from_somebody_else_names_the_url_and_says_so(status: int, kind: type, body: bytes) -> None:
    error = error_of(status, {}, body, URL)

    assert type(error) is kind
    assert URL in str(error)
    assert "check the URL" in (error.hint or "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("12", 12.0),
        ("soon", None),
        ("\x1c5", 5.0),
        ("9" * 400, LONGEST_WAIT),
        ("Thu, 01 Jan 9999 00:01:00 GMT", LONGEST_WAIT),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, expected: float | None) -> None:
    found = retry_after(text, NOW)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("1e999", LONGEST_WAIT),
        ("-5", 0.0),
        ("9" * 400, LONGEST_WAIT),
        ("NaN", 1.0),
        ('"5"', 1.0),
        ("null", 1.0),
        ("2.5", 2.5),
    ],
)
def test_no_document_lets_a_client_wait_for_ever(said: str, expected: float) -> None:
    error = error_of(503, {}, b'{"code": "unavailable", "retry_after": %b}' % said.encode(), URL)
    assert isinstance(error, Unavailable)
    assert error.retry_after == expected


def test_a_document_of_any_depth_is_an_error_of_ours() -> None:
    assert isinstance(error_of(503, {}, b"[" * 200_000, URL), Unavailable)
