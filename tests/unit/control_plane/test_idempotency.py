from datetime import UTC, datetime
from typing import Any

import pytest

from tailplane.control_plane.idempotency import request_of
from tailplane.protocol.errors import Unserialisable


def content(body: Any, path: str = "/v1/tasks", method: str = "POST") -> str:
    request = request_of("k", method=method, path=path, body=body)
    assert request
    return request.content


def deep(levels: int) -> Any:
    value: Any = {"b": 1, "a": 2}
    for _ in range(levels):
        value = [value]
    return value


def test_without_a_key_there_is_nothing_to_remember() -> None:
    assert request_of(None, method="POST", path="/", body=1) is None


def test_the_key_itself_is_not_kept() -> None:
    request = request_of("my order", method="POST", path="/", body=1)

    assert request
    assert "order" not in request.key


def test_the_order_of_keys_does_not_count() -> None:
    assert content({"a": 1, "b": {"c": 2, "d": 3}}) == content({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize(
    "other", [2, "1", [1], None, {"a": b"\x00"}, datetime(2026, 1, 1, tzinfo=UTC), deep(150), {b"k": 1}]
)
def test_another_body_is_another_request(other: Any) -> None:
    assert content(1) != content(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [({1: 2}, {"1": 2}), (b"x", {"$bytes": "eA=="}), (float("nan"), None), (float("inf"), float("-inf"))],
)
def test_bodies_that_json_shows_alike_are_other_requests(one: Any, other: Any) -> None:
    assert content(one) != content(other)


def test_another_path_or_method_is_another_request() -> None:
    assert len({content(1), content(1, path="/v1/sessions"), content(1, method="PUT")}) == 3


@pytest.mark.parametrize("body", [deep(150), {b"k": {"a": 1}}])
def test_an_unusual_body_equals_itself(body: Any) -> None:
    assert content(body) == content(body)


def test_a_body_nested_beyond_measure_is_refused() -> None:
    with pytest.raises(Unserialisable):
        content(deep(1000))
