"""`@step`: a function that is a durable step wherever a workflow awaits it, and itself everywhere else."""

import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from tailplane.workers.branches import CURRENT
from tailplane.workers.declared import check_names
from tailplane.workers.steps import StepOptions, Steps
from tailplane.workers.threads import require_a_loop, runs_a_loop

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# Whose steps the running code makes; None: it is no workflow's.
OF_THIS_ATTEMPT: ContextVar[Steps | None] = ContextVar("tailplane steps", default=None)


class Step(Generic[P, R]):
    """A function that `@step` has made a step; `R` is what a call of it returns.

    For a checker that is what the function returns, if it is async. One that is not is awaited in a workflow and called
    elsewhere, so there it is `Any`.
    """

    def __init__(self, function: Callable[P, Any], options: StepOptions) -> None:
        self.function = function
        self.options = options
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it as a step, to be awaited; outside of a workflow, call the function."""
        steps = OF_THIS_ATTEMPT.get()
        result: Any
        # In the thread of a step it is a part of that.
        if steps is None or (CURRENT.get() is not None and not runs_a_loop()):
            result = self.function(*args, **kwargs)
        else:
            require_a_loop("a step")
            result = steps.run(self.options, self.function, args, dict(kwargs))
        return cast("R", result)

    def __get__(self, instance: object, owner: type | None = None) -> "Step[..., R]":
        """Return the step of an object's method."""
        if instance is None:
            return self
        bound: Callable[..., Any] = self.function.__get__(instance, owner)
        return Step(bound, self.options)

    def __repr__(self) -> str:
        return f"<Step {self.options.name or self.function.__name__}>"


class Decorator(Protocol):
    """What `@step(...)` returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Step[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, function: Callable[P, object], /) -> Step[P, Any]: ...


@overload
def step(function: Callable[P, Coroutine[Any, Any, T]], /) -> Step[P, Coroutine[Any, Any, T]]: ...
@overload
def step(function: Callable[P, object], /) -> Step[P, Any]: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: timedelta | float = 1.0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
) -> Decorator: ...


def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a durable step, bare (`@step`) or with `StepOptions` (`@step(retries=3)`).

    In a workflow, `await fetch(url)` is then `await ctx.step(fetch, url)`. A function that is not async is awaited
    there, too, and runs in a thread. Elsewhere, as in its tests, it is called as it is.
    """
    if function is not None:
        return Step(function, StepOptions())
    check_names("@step", StepOptions, options)
    return lambda function: Step(function, StepOptions(**options))
