from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from tailplane.broker import WorkflowRecord
from tailplane.control_plane.validation import MAX_ERRORS, InputValidation
from tailplane.protocol.errors import InvalidInput


def workflow(schema: dict[str, Any], name: str = "w") -> WorkflowRecord:
    return WorkflowRecord(name, "1", "", schema, None, 1, None)


def errors(schema: dict[str, Any], value: Any) -> list[dict[str, Any]]:
    with pytest.raises(InvalidInput) as caught:
        InputValidation().check(workflow(schema), value)
    found: list[dict[str, Any]] = caught.value.facts["errors"]
    return found


OBJECT = {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string", "maxLength": 3}}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, object),
        (OBJECT, {"n": 1, "s": "abc"}),
        (OBJECT, {"s": b"\xff\xfe\xfd"}),
        (OBJECT, {b"raw": 1, 7: 2}),
        ({"type": "string", "format": "date-time"}, datetime(2026, 1, 1, tzinfo=UTC)),
        ({"type": "string", "format": "date-time"}, "the worker's model decides on formats"),
        ({"type": "number"}, float("nan")),
        ({"type": "number"}, float("inf")),
        ({"type": "integer"}, 2**64 - 1),
        ({"$ref": "#/$defs/N", "$defs": {"N": {"type": "integer"}}}, 1),
    ],
)
def test_what_fits_passes(schema: dict[str, Any], value: Any) -> None:
    InputValidation().check(workflow(schema), value)


def test_each_error_says_where_and_what_and_not_the_value() -> None:
    found = errors(OBJECT, {"n": "secret", "s": "secret"})

    assert sorted(error["loc"] for error in found) == [["n"], ["s"]]
    assert all(error["msg"] and "secret" not in error["msg"] for error in found)


def test_bytes_are_as_long_as_they_are() -> None:
    assert [error["loc"] for error in errors(OBJECT, {"s": b"\xff\xfe\xfd\xfc"})] == [["s"]]


def test_errors_are_bounded() -> None:
    assert len(errors({"items": {"type": "string"}}, list(range(1000)))) == MAX_ERRORS


def test_an_input_nested_beyond_measure_is_refused() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]

    (error,) = errors({"type": "array"}, value)

    assert "deep" in error["msg"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"pattern": "("},
        {"$ref": "https://127.0.0.1:1/never-fetched.json"},
        {"$ref": "#/$defs/missing"},
        {"$schema": "urn:unknown"},
    ],
)
def test_a_schema_that_is_of_no_use_lets_pass_and_is_logged_once(schema: dict[str, Any]) -> None:
    validation = InputValidation()

    with structlog.testing.capture_logs() as logged:
        validation.check(workflow(schema), 1)
        validation.check(workflow(schema), 2)

    assert [(entry["workflow"], entry["log_level"]) for entry in logged] == [("w", "warning")]


def test_a_changed_schema_is_in_force_at_once() -> None:
    validation = InputValidation()
    validation.check(workflow({"type": "integer"}), 1)

    validation.check(workflow({"type": "string"}), "one")

    with pytest.raises(InvalidInput):
        validation.check(workflow({"type": "string"}), 1)


def test_workflows_do_not_share_schemas() -> None:
    validation = InputValidation()
    validation.check(workflow({"type": "integer"}, "a"), 1)
    validation.check(workflow({"type": "string"}, "b"), "one")

    with pytest.raises(InvalidInput):
        validation.check(workflow({"type": "integer"}, "a"), "one")
