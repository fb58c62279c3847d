"""`@step`: a function that is a durable step wherever a workflow awaits it, and itself everywhere else."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar, overload

from tailplane.workers.branches import CURRENT
from tailplane.workers.steps import StepOptions, Steps
from tailplane.workers.threads import require_a_loop, runs_a_loop

P = ParamSpec("P")
R = TypeVar("R")

# Whose steps the running code makes; None: it is no workflow's.
OF_THIS_ATTEMPT: ContextVar[Steps | None] = ContextVar("tailplane steps", default=None)


class Step(Generic[P, R]):
    """A function that `@step` has made a step."""

    def __init__(self, function: Callable[P, R], options: StepOptions) -> None:
        self.function = function
        self.options = options
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run it as a step, to be awaited; outside of a workflow, call the function."""
        steps = OF_THIS_ATTEMPT.get()
        # In the thread of a step it is a part of that.
        if steps is None or (CURRENT.get() is not None and not runs_a_loop()):
            return self.function(*args, **kwargs)
        require_a_loop("a step")
        return steps.run(self.options, self.function, args, dict(kwargs))

    def __get__(self, instance: object, owner: type | None = None) -> "Step[..., R]":
        """Return the step of an object's method."""
        if instance is None:
            return self
        bound: Callable[..., R] = self.function.__get__(instance, owner)
        return Step(bound, self.options)

    def __repr__(self) -> str:
        return f"<Step {self.options.name or self.function.__name__}>"


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: timedelta | float = 1.0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a durable step, bare (`@step`) or with `StepOptions` (`@step(retries=3)`).

    In a workflow, `await fetch(url)` is then `await ctx.step(fetch, url)`. A function that is not async is awaited
    there, too, and runs in a thread. Elsewhere, as in its tests, it is called as it is.
    """
    if function is not None:
        return Step(function, StepOptions())
    return lambda function: Step(function, StepOptions(**options))
