import shlex
from typing import Any

import pytest

from tailplane.deploy.sample_input import run_command, sample_input

QUESTION = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "depth": {"type": "integer", "default": 1}},
    "required": ["text"],
}


@pytest.mark.parametrize(
    ("schema", "sample"),
    [
        (True, None),
        ({}, None),
        ({"type": "string"}, "text"),
        ({"type": "integer"}, 1),
        ({"type": "number"}, 1.0),
        ({"type": "boolean"}, True),
        ({"type": "array", "items": {"type": "string"}}, []),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["text", "text"]),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}, ["text", 1]),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "string", "default": "fair"}, "fair"),
        ({"type": "string", "example": "fair"}, "fair"),
        ({"type": "string", "examples": ["fair", "foul"]}, "fair"),
        ({"enum": ["slow", "fast"]}, "slow"),
        ({"const": 7}, 7),
        (QUESTION, {"text": "text"}),
        ({"properties": {"n": {"type": "integer"}}, "required": ["n", "unheard_of"]}, {"n": 1, "unheard_of": None}),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"anyOf": [{"type": "null"}]}, None),
        ({"$defs": {"Question": QUESTION}, "$ref": "#/$defs/Question"}, {"text": "text"}),
        ({"$ref": "#/$defs/Missing"}, None),
    ],
)
def test_a_sample_has_the_shape_that_the_schema_asks_for(schema: object, sample: Any) -> None:
    assert sample_input(schema) == sample


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}}, "required": ["left"]}
    assert "left" in sample_input({"$defs": {"Tree": tree}, "$ref": "#/$defs/Tree"})


def test_the_command_has_the_sample_as_one_word_of_the_shell() -> None:
    command = run_command({"name": "ask", "input_schema": {"const": "don't $HOME"}, "input_optional": False})
    assert shlex.split(command) == ["tailplane", "run", "ask", '"don\'t $HOME"']


def test_an_input_that_may_be_left_out_is_left_out() -> None:
    workflow = {"name": "greet", "input_schema": {"type": "string"}}
    assert run_command(workflow) == "tailplane run greet '\"text\"'"
    assert run_command(workflow | {"input_optional": True}) == "tailplane run greet"
    assert run_command({"name": "anything", "input_schema": {}}) == "tailplane run anything"
