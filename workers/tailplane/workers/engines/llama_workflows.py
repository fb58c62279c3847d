"""Workflows of llama-index-workflows, unmodified: what is registered of one, and what is required of it.

Its input is its start event's fields, its result what `await workflow.run()` returns. What its steps give to
`ctx.write_event_to_stream` are the events of its stream, typed by their classes. The library is used by its extension
points and by its journal, which is new in 2.26: its version is looked at before anything is served.
"""

import importlib.metadata
import inspect
import re
from dataclasses import fields
from typing import Any

from pydantic.errors import PydanticUserError

from tailplane.workers.context import Context
from tailplane.workers.engines.errors import EngineUnfit
from tailplane.workers.engines.names import name_of
from tailplane.workers.workflow import Options, Workflow, digest_of

_DISTRIBUTION = "llama-index-workflows"
# From the first that has a journal to before the first that was not tried: how it is encoded is not promised.
_FIRST, _BEFORE = (2, 26), (2, 27)
_NEEDED = f"{_DISTRIBUTION}>=2.26,<2.27"
_PARAMETERS = {
    "journal": ["self", "run_id"],
    "restore": ["self", "workflow", "snapshot", "records", "serializer"],
    "state_checkpoint": ["self", "run_id"],
}


def serve(value: Any, name: str | None) -> Workflow:
    """Return the workflow that runs an instance of the library's Workflow.

    Args:
        name: by which its module knows it. What it was given as `workflow_name` comes before, its class' name after it.
    Raises:
        EngineUnfit: another version of the library is installed, or the instance needs another runtime, or pickle.
    """
    check_version(importlib.metadata.version(_DISTRIBUTION))
    _check_journal()
    from tailplane.workers.engines.llama_run import Run
    from tailplane.workers.engines.llama_runtime import LedgerRuntime, basic_runtime_of

    _check_instance(value)
    if basic_runtime_of(value.runtime) is None:
        raise EngineUnfit(
            f"{type(value).__name__} was made for the runtime {type(value.runtime).__name__}",
            hint="make it without `runtime`: Tailplane does what a durable runtime would",
        )
    runtime = runtime_for(value, LedgerRuntime)
    kind = value.start_event_class
    is_optional = not any(each.is_required() for each in kind.model_fields.values())

    async def run(ctx: Context, start: Any) -> Any:
        # Another attempt of the same task may not have unwound yet.
        run_id = f"{ctx.task_id}.{ctx.attempt}"
        return await Run(value, runtime, ctx, run_id).result(start)

    async def run_without_input(ctx: Context, start: Any = None) -> Any:
        return await run(ctx, kind() if start is None else start)

    function = run_without_input if is_optional else run
    function.__name__ = function.__qualname__ = name_of(value._workflow_name, name, type(value).__name__)
    function.__doc__ = type(value).__doc__
    workflow = Workflow(function, Options(input_model=kind, version=digest_of(type(value))))
    try:
        workflow.record()
    except PydanticUserError as error:
        raise EngineUnfit(f"the fields of {kind.__name__} can't be described as JSON: {error}") from None
    return workflow


def check_version(version: str) -> None:
    """See to it that a version of the library is one that was tried.

    Raises:
        EngineUnfit: it is not.
    """
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not _FIRST <= found < _BEFORE:
        raise EngineUnfit(
            f"{_DISTRIBUTION} {version} is installed, and {_NEEDED} is needed", hint=f"pip install '{_NEEDED}'"
        )


def _check_journal() -> None:
    from workflows.plugins import basic

    found = {name: list(inspect.signature(getattr(basic.BasicRuntime, name)).parameters) for name in _PARAMETERS
             if hasattr(basic.BasicRuntime, name)}  # fmt: skip
    record = getattr(basic, "JournalRecord", None)
    if found != _PARAMETERS or record is None or [each.name for each in fields(record)] != ["seq", "data"]:
        raise EngineUnfit(f"the journal of the installed {_DISTRIBUTION} is not that of 2.26", hint=f"use {_NEEDED}")


def _check_instance(value: Any) -> None:
    from workflows.context.serializers import JsonSerializer, PickleSerializer

    serializer = value.runtime.get_serializer(value)
    if isinstance(serializer, PickleSerializer) or not isinstance(serializer, JsonSerializer):
        raise EngineUnfit(
            f"{type(value).__name__} has a {type(serializer).__name__}: what a task remembers is JSON, never pickle",
            hint="make it without `serializer`, or with a JsonSerializer",
        )


def runtime_for(value: Any, kind: Any) -> Any:
    """Return the runtime that hands an instance's runs to ledgers; the same one if it is served by two names."""
    if isinstance(value.runtime, kind):
        return value.runtime
    runtime = kind(value.runtime)
    try:
        value._switch_runtime(runtime)
    except RuntimeError:
        raise EngineUnfit(
            f"{type(value).__name__} has run already, while its module was imported",
            hint="run it under `if __name__ == '__main__':`",
        ) from None
    return runtime
