"""What a step returned or raised, from one attempt to the next: msgpack and pydantic, never pickle. No I/O."""

import builtins
import contextlib
import functools
import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from tailplane.protocol import codec
from tailplane.protocol.errors import StepFailed, TailplaneError, TooLarge, Unserialisable, WorkflowChanged
from tailplane.workers.descriptions import describe


def pack_value(value: object, most: int, name: str, annotated: TypeAdapter[Any] | None) -> bytes:
    """Return what a step has returned, as the task's record keeps it.

    Args:
        annotated: what reads it again; None: nothing does.

    Raises:
        Unserialisable: msgpack can't carry it.
        TooLarge: it has more than `most` bytes.
    """
    try:
        packed = _pack(value, annotated)
    except Unserialisable as error:
        raise Unserialisable(f"what step {name} returned can't be kept: {error.detail}", hint=error.hint) from None
    if len(packed) > most:
        raise TooLarge(
            f"what step {name} returned has {len(packed)} bytes, {most} are allowed",
            hint="keep large results in a store of their own, and return where they are",
        )
    return packed


def _pack(value: object, annotated: TypeAdapter[Any] | None) -> bytes:
    try:
        return codec.pack(value)
    except Unserialisable:
        if annotated is None:
            raise
        # Such as a dataclass, a set or a UUID: the annotation makes its plain form that again. `object`, or a list's
        # Any, would not: then it is refused, as without an annotation.
        with contextlib.suppress(Unserialisable, ValidationError):
            plain = codec.dump_as(annotated, value)
            if _is_same(_read(plain, annotated), value):
                return codec.pack(plain)
        raise


def _is_same(made: object, value: object) -> bool:
    # What has a NaN in it, or compares by identity, equals nothing else; what it looks like still tells it from others.
    return type(made) is type(value) and (made == value or repr(made) == repr(value))


def _read(plain: object, annotated: TypeAdapter[Any]) -> Any:
    # Not strict: a UUID is kept as str and a tuple as list, since msgpack has neither.
    return annotated.validate_python(plain, strict=False, by_alias=True, by_name=True)


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
        return _read(value, adapter)
    except ValidationError as error:
        raise WorkflowChanged(
            f"what step {name} returned does not fit its annotation: {error.errors()[0]['msg']}",
            hint="it was kept by an earlier attempt; give the step another name, or let the annotation take both",
        ) from None


def keep(value: object, function: Callable[..., Any], most: int, name: str) -> tuple[bytes, Any]:
    """Return what a step has returned, as the task's record keeps it and as a later attempt will get it.

    Raises:
        Unserialisable, TooLarge: it can't be kept, or nobody would get it back.
    """
    check_returned(value, function, name)
    packed = pack_value(value, most, name, returned_type(function))
    try:
        return packed, restore(packed, function, name)
    except WorkflowChanged as error:
        raise Unserialisable(
            error.detail, hint="let the annotation say what the step returns, or leave it out"
        ) from None


def check_returned(value: object, function: Callable[..., Any], name: str) -> None:
    """Make sure that a later attempt gets what this one does.

    Raises:
        Unserialisable: the value is a model, and nothing says which; or it is no value at all.
    """
    kind = type(value).__name__
    if isinstance(value, BaseModel) and returned_type(function) is None:
        raise Unserialisable(
            f"step {name} returned a {kind}, and nothing says so to a later attempt", hint=f"annotate it: -> {kind}"
        )
    if isinstance(value, Iterator | AsyncIterator):
        raise Unserialisable(
            f"step {name} returned a {kind}, which can be read only once",
            hint="a step is a function that returns: write events in it, and return a list",
        )


def returned_type(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Return what checks a function's result; None: it has no annotation that says anything."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = function.func
    # An object may have no hash; its class's function has one.
    function = getattr(function, "__func__", function)
    return _adapter(function) if inspect.isfunction(function) else _adapter_of_call(function)


def _adapter_of_call(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Return what checks what a class makes, or what an object that can be called returns."""
    if inspect.isclass(function):
        return TypeAdapter(function) if issubclass(function, BaseModel) else None
    call = inspect.getattr_static(type(function), "__call__", None)
    return _adapter(call) if inspect.isfunction(call) else None


@functools.lru_cache(maxsize=1024)
def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    try:
        annotation = typing.get_type_hints(function, include_extras=True).get("return", Any)
        return None if annotation is Any else TypeAdapter(annotation)
    except (NameError, TypeError, AttributeError, PydanticUserError):
        # Such as a class that only a type checker sees.
        return None


def pack_error(error: BaseException) -> dict[str, Any]:
    """Return what a step has raised, as the task's record keeps it."""
    described = describe(error)
    try:
        args = codec.unpack(codec.pack(list(error.args)))
    except Unserialisable:
        args = [described["message"]]
    return {**described, "args": args}


def restore_error(kept: Mapping[str, Any]) -> BaseException:
    """Return what a step raised in an earlier attempt: of its class where that is loaded and can be made of its `args`,
    else a StepFailed that names it. No `__init__` runs.
    """
    module, _, name = str(kept["type"]).rpartition(".")
    kind: Any = builtins if module == "builtins" else sys.modules.get(module)
    kind = getattr(kind, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        args = tuple(kept.get("args", ()))
        # Such as pydantic's ValidationError, which nobody may make.
        with contextlib.suppress(Exception):
            error = kind.__new__(kind, *args)
            error.args = args
            if isinstance(error, TailplaneError):
                error.detail, error.hint, error.facts = str(kept["message"]), None, {}
            return error
    return StepFailed(f"{kept['type']}: {kept['message']}")
