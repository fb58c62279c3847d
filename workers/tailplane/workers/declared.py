"""Checks what authors declare of workflows and steps where they declare it, and not when it is first needed. No I/O."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any


def check_names(decorator: str, options: Any, given: Iterable[str]) -> None:
    """Check that a decorator has each option that is given. `options`: the dataclass whose fields they are.

    Raises:
        TypeError: it has not; the message names those that there are.
    """
    known = [field.name for field in fields(options)]
    for name in given:
        if name not in known:
            raise TypeError(f"{decorator} has no option {name!r}; it has {', '.join(known)}")


def check_retries(retries: object, retry_on: object) -> None:
    """Check what says whether there is another attempt, or try.

    Raises:
        TypeError: `retries` is no whole number, or `retry_on` neither a class of exceptions nor a tuple of such.
    """
    if not isinstance(retries, int):
        raise TypeError(f"retries must be a whole number, not {retries!r}")
    classes = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
        raise TypeError(f"retry_on must be a class of exceptions, or a tuple of such classes, not {retry_on!r}")
