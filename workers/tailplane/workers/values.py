"""What a step returned or raised, from one attempt to the next: msgpack and pydantic, never pickle. No I/O."""

import builtins
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from tailplane.protocol import codec
from tailplane.protocol.errors import StepFailed, TailplaneError, TooLarge, Unserialisable, WorkflowChanged
from tailplane.workers.descriptions import describe


def pack_value(value: object, most: int, name: str) -> bytes:
    """Return what a step has returned, as the task's record keeps it.

    Raises:
        Unserialisable: msgpack can't carry it.
        TooLarge: it has more than `most` bytes.
    """
    try:
        packed = codec.pack(codec.dump_model(value) if isinstance(value, BaseModel) else value)
    except Unserialisable as error:
        raise Unserialisable(f"what step {name} returned can't be kept: {error.detail}", hint=error.hint) from None
    if len(packed) > most:
        raise TooLarge(
            f"what step {name} returned has {len(packed)} bytes, {most} are allowed",
            hint="keep large results in a store of their own, and return where they are",
        )
    return packed


def restore(packed: bytes, function: Callable[..., Any] | None, name: str) -> Any:
    """Return a kept value as what the function's return annotation says; without one, as msgpack has it.

    Raises:
        WorkflowChanged: it does not fit the annotation: that has changed since.
    """
    value = codec.unpack(packed)
    adapter = None if function is None else returned_type(function)
    if adapter is None:
        return value
    try:
        # Not strict: a UUID is kept as str and a tuple as list, since msgpack has neither.
        return adapter.validate_python(value, strict=False, by_alias=True, by_name=True)
    except ValidationError as error:
        raise WorkflowChanged(
            f"what step {name} returned does not fit its annotation: {error.errors()[0]['msg']}",
            hint="it was kept by an earlier attempt; give the step another name, or let the annotation take both",
        ) from None


def check_returned(value: object, function: Callable[..., Any], name: str) -> None:
    """Make sure that a later attempt gets what this one does.

    Raises:
        Unserialisable: the value is a model, and nothing says which.
    """
    if isinstance(value, BaseModel) and returned_type(function) is None:
        kind = type(value).__name__
        raise Unserialisable(
            f"step {name} returned a {kind}, and nothing says so to a later attempt", hint=f"annotate it: -> {kind}"
        )


@functools.lru_cache(maxsize=1024)
def returned_type(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Return what checks a function's result; None: it has no annotation that says anything."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = function.func
    try:
        annotation = typing.get_type_hints(function, include_extras=True).get("return", Any)
        return None if annotation is Any else TypeAdapter(annotation)
    except (NameError, TypeError, AttributeError, PydanticUserError):
        # Such as a class that only a type checker sees.
        return None


def pack_error(error: BaseException) -> dict[str, Any]:
    """Return what a step has raised, as the task's record keeps it."""
    try:
        args = codec.unpack(codec.pack(list(error.args)))
    except Unserialisable:
        args = [str(error)]
    return {**describe(error), "args": args}


def restore_error(kept: Mapping[str, Any]) -> BaseException:
    """Return what a step raised in an earlier attempt: of its class where that is loaded, with its `args`; no
    constructor runs.
    """
    module, _, name = str(kept["type"]).rpartition(".")
    kind: Any = builtins if module == "builtins" else sys.modules.get(module)
    kind = getattr(kind, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        args = tuple(kept.get("args", ()))
        error = kind.__new__(kind, *args)
        error.args = args
        if isinstance(error, TailplaneError):
            error.detail, error.hint, error.facts = str(kept["message"]), None, {}
        return error
    return StepFailed(f"{kept['type']}: {kept['message']}")
