"""Inputs against the JSON Schemas that workers register. No I/O.

What is refused here never costs a worker anything. The worker checks again, against the model itself: so where a schema
can't decide (unknown to our validator, or about formats), the input passes.
"""

import math
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import jsonschema_rs
import structlog

from tailplane.broker import WorkflowRecord
from tailplane.protocol.errors import InvalidInput

# Enough to mend a call by; a wrong list of thousands would else be answered by thousands of errors.
MAX_ERRORS = 20

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Compiled:
    schema: dict[str, Any]
    validator: Any


@dataclass(frozen=True, slots=True)
class InputValidation:
    """Checks inputs; keeps one compiled validator per workflow."""

    _compiled: dict[str, _Compiled] = field(default_factory=dict)

    def check(self, workflow: WorkflowRecord, value: Any, *, is_hidden: bool = False) -> None:
        """Let a fitting input pass.

        Args:
            is_hidden: who asks may not be told what is in the input.
        Raises:
            InvalidInput: it does not fit; `errors` says what is wrong and where, by the names of its members, without
                their values. Of one that is hidden nothing is said.
        """
        if value is None and workflow.input_optional:
            return
        validator = self._validator(workflow)
        if validator is None:
            return
        try:
            found = [
                {"loc": list(error.instance_path), "msg": error.message}
                for error in islice(validator.iter_errors(_json_form(value)), MAX_ERRORS)
            ]
        except (RecursionError, ValueError):
            found = [{"loc": [], "msg": "the input is nested too deeply"}]
        if found and value is None:
            found = [{"loc": [], "msg": "there is none, and it needs one"}]
        if found and is_hidden:
            raise InvalidInput(f"the stored input does not fit {workflow.name}")
        if found:
            raise InvalidInput(f"the input does not fit {workflow.name}: {_summary(found[0])}", errors=found)

    def _validator(self, workflow: WorkflowRecord) -> Any:
        known = self._compiled.get(workflow.name)
        # Compared by the schema itself: a new version may bring another one, and so may a mistake without one.
        if known is None or (known.schema is not workflow.input_schema and known.schema != workflow.input_schema):
            known = _Compiled(workflow.input_schema, _compile(workflow))
            self._compiled[workflow.name] = known
        return known.validator


def _compile(workflow: WorkflowRecord) -> Any:
    if not workflow.input_schema:
        return None
    try:
        # Offline: a schema must not make the control plane fetch URLs. Masked: an answer repeats no value of the
        # input; it does name its members.
        return jsonschema_rs.validator_for(workflow.input_schema, offline=True, mask="the value")
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        log.warning("input schema not usable, inputs pass unchecked", workflow=workflow.name, error=str(error)[:300])
        return None


def _summary(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def _json_form(value: Any) -> Any:
    """Return what a value that came as msgpack looks like to a JSON Schema: bytes and datetimes are strings there."""
    match value:
        case dict():
            return {
                _json_form(key) if isinstance(key, str | bytes) else str(key): _json_form(item)
                for key, item in value.items()
            }
        case list():
            return [_json_form(item) for item in value]
        case bytes():
            # As many characters as bytes, so that lengths mean what they say.
            return value.decode("latin-1")
        case datetime():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return 0.0
        case _:
            return value
