"""An input that fits a workflow's schema, made up so that the first run of it can be copied from the terminal. Pure.

It is a sample and no validator: where a schema asks for more (patterns, bounds), it may be refused, and the refusal
says what is wanted.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

_BY_TYPE: dict[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "array": [],
    "null": None,
}
# A schema may refer to itself: past this depth a value is left null.
_MAX_DEPTH = 12


def run_command(workflow: Mapping[str, Any]) -> str:
    """Return a command line that runs a workflow with an input, if it needs one.

    Args:
        workflow: as `GET /v1/workflows` has it; `input_optional` is absent where the control plane is older than it.
    """
    command = f"tailplane run {shlex.quote(workflow['name'])}"
    sample = None if workflow.get("input_optional", False) else sample_input(workflow.get("input_schema", {}))
    # Null is what a run without an input gives.
    return command if sample is None else f"{command} {shlex.quote(json.dumps(sample, ensure_ascii=False))}"


def sample_input(schema: object) -> Any:
    """Return a value that fits a JSON Schema as well as can be told from its types; None where anything fits."""
    return _sample(schema, schema, 0)


def _sample(schema: object, root: object, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    for name in ("default", "example", "const"):
        if name in schema:
            return schema[name]
    if "$ref" in schema:
        return _sample(_referred(schema["$ref"], root), root, depth + 1)
    for name in ("examples", "enum"):
        if schema.get(name):
            return schema[name][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _sample(_first_not_null(schema[name]), root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if kind == "object" or (kind is None and "properties" in schema):
        return _object(schema, root, depth)
    return _array(schema, root, depth) if kind == "array" else _BY_TYPE.get(str(kind))


def _object(schema: Mapping[str, Any], root: object, depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {name: _sample(properties.get(name), root, depth + 1) for name in schema.get("required", ())}


def _array(schema: Mapping[str, Any], root: object, depth: int) -> list[Any]:
    # A tuple's places, or as many items as it must have at least; as a rule none.
    places = schema.get("prefixItems") or [schema.get("items")] * schema.get("minItems", 0)
    return [_sample(place, root, depth + 1) for place in places]


def _referred(reference: object, root: object) -> object:
    """Return what `#/$defs/Name` refers to; None where there is no such thing."""
    found = root
    for name in str(reference).removeprefix("#").split("/")[1:]:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _first_not_null(choices: list[Any]) -> object:
    return next((each for each in choices if not isinstance(each, Mapping) or each.get("type") != "null"), choices[0])
