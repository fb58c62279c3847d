"""What an attempt failed with, as the Error of PROTOCOL.md 2. No I/O."""

import traceback
from typing import Any

from tailplane.protocol.errors import (
    BufferFull,
    InvalidInput,
    TailplaneError,
    TooLarge,
    Unserialisable,
    WorkflowChanged,
)
from tailplane.workers.engines.errors import EngineTimeout

_MAX_TEXT = 64 * 1024


def describe(error: BaseException) -> dict[str, Any]:
    """Return what a workflow raised as the Error of PROTOCOL.md 2."""
    kind = type(error)
    text = "".join(traceback.format_exception(kind, error, error.__traceback__))
    match error:
        case InvalidInput() | Unserialisable() | TooLarge() | BufferFull() | WorkflowChanged():
            code = error.code
        case EngineTimeout():
            code = "timeout"
        case _:
            code = "workflow_error"
    described = error_facts(code, f"{kind.__module__}.{kind.__qualname__}", _message(error))
    return described | {"traceback": _valid(text[-_MAX_TEXT:])}


def _message(error: BaseException) -> str:
    try:
        return error.detail if isinstance(error, TailplaneError) else str(error)
    except Exception as broken:
        # The author's `__str__`; without this the attempt would break off instead of failing.
        return f"<no message: {type(broken).__name__} in {type(error).__qualname__}.__str__>"


def error_facts(code: str, kind: str, message: str) -> dict[str, Any]:
    """Return an Error without a traceback; what can't be sent, or is too long, is left out of its message."""
    return {"code": code, "type": kind, "message": cut(message, _MAX_TEXT)}


def cut(text: str, most: int) -> str:
    """Return the first `most` characters of a text, without what can't be sent."""
    return _valid(text[:most])


def _valid(text: str) -> str:
    # Lone surrogates, such as those of undecodable file names, can't be sent.
    return text.encode("utf-8", "replace").decode()
