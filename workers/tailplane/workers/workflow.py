"""What a workflow is: a function, its name and options, and the check of its input."""

import functools
import hashlib
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Literal, get_args, overload

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model

from tailplane.broker import WorkflowRecord
from tailplane.protocol.errors import InvalidInput
from tailplane.protocol.ids import check_workflow_name
from tailplane.protocol.priorities import Priority
from tailplane.workers.declared import check_names, check_retries

WorkflowFunction = Callable[..., Any]
OnFull = Literal["fail", "block", "coalesce"]


class Shape(Enum):
    """How a workflow's function is run."""

    COROUTINE = auto()
    ASYNC_GENERATOR = auto()
    FUNCTION = auto()
    GENERATOR = auto()


@dataclass(frozen=True, slots=True)
class Options:
    """What an author declares of a workflow. A time is a timedelta, or a number of seconds.

    Attributes:
        name: how it is called by those who run it; None: the function's name.
        version: kept with each task; None: a digest of the function's source.
        input_model: what the input must fit; None: the annotations say it.
        timeout: how long one attempt may take, with what it waits for until the task is parked; None: as long as it
            likes.
        total_timeout: how long a task may take over all its attempts and the waits between them, from its first start;
            None: as long as it likes.
        start_within: how long a task may be queued before its first attempt; None: as the control plane's setting says.
        retries: how many more attempts a task gets after one that raised.
        retry_delay: how long before the second attempt; doubled for each further one, at most a minute. Up to half
            of it is taken off at random.
        retry_on: the exceptions that are worth another attempt; a timeout is a TimeoutError.
        retry_on_crash: whether a task may run again whose worker was lost or stopped in the middle of an attempt; if
            not, it fails with `worker_lost`.
        concurrency: how many at once in one worker process; None: as many as the worker takes.
        max_running: how many at once over all workers; None: any number. Each worker goes by its own code's.
        priority: `high`, `normal` or `low`: which tasks are claimed first. What a submit says goes before it.
        keep_last: how many of the last events of a task's stream are kept at least, while others are removed as it goes
            on; None: all. A reader who comes too late is told what it missed.
        on_full: what `write_event_to_stream` does where Redis takes events slower than they come: `fail` raises
            BufferFull at the bound of the task's buffer; `block` waits before it, in workflows that run in a thread (an
            async one would hold up all others: let it use `emit`); `coalesce` joins texts of one channel into one.
        log_events: from which level on, such as "INFO", the records of Python's `logging` that the workflow and its
            threads make become events of the stream (`task.log`); None: none do.
    """

    name: str | None = None
    version: str | None = None
    input_model: Any = None
    timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    start_within: timedelta | None = None
    retries: int = 0
    retry_delay: timedelta = timedelta(seconds=1)
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    retry_on_crash: bool = True
    concurrency: int | None = None
    max_running: int | None = None
    priority: str = Priority.NORMAL.value
    keep_last: int | None = None
    on_full: OnFull = "fail"
    log_events: str | None = None

    def __post_init__(self) -> None:
        for name in ("timeout", "total_timeout", "start_within", "retry_delay"):
            duration = getattr(self, name)
            if isinstance(duration, int | float) and not isinstance(duration, bool):
                # Seconds, as everywhere else.
                duration = timedelta(seconds=duration)
                object.__setattr__(self, name, duration)
            if not isinstance(duration, timedelta | None):
                raise TypeError(f"{name} must be a timedelta, or a number of seconds, not {duration!r}")
            if name != "retry_delay" and duration is not None and duration <= timedelta():
                raise ValueError(f"{name} must be longer than nothing, not {duration}")
        check_retries(self.retries, self.retry_on)
        if self.retry_delay < timedelta():
            raise ValueError(f"retry_delay must be at least 0, not {self.retry_delay}")
        for name, least in (("retries", 0), ("concurrency", 1), ("max_running", 1), ("keep_last", 1)):
            number = getattr(self, name)
            if number is not None and number < least:
                raise ValueError(f"{name} must be at least {least}, not {number}")
        if self.priority not in list(Priority):
            raise ValueError(f"priority must be one of {', '.join(Priority)}, not {self.priority!r}")
        if self.on_full not in get_args(OnFull):
            raise ValueError(f"on_full must be one of {', '.join(get_args(OnFull))}, not {self.on_full!r}")
        if self.log_events is not None and str(self.log_events).upper() not in logging.getLevelNamesMapping():
            raise ValueError(f"log_events must be a level of logging, such as 'INFO', not {self.log_events!r}")

    @property
    def log_level(self) -> int | None:
        """`log_events` as a number of `logging`."""
        return None if self.log_events is None else logging.getLevelNamesMapping()[self.log_events.upper()]


class Workflow:
    """A function that workers can run, as `@workflow` makes it. Calling it calls the function."""

    def __init__(self, function: WorkflowFunction, options: Options | None = None) -> None:
        self.function = function
        self.options = options or Options()
        self.name = check_workflow_name(self.options.name or function.__name__)
        self.version = self.options.version or digest_of(function)
        self.shape = _shape(function)
        self._input = _Input.of(function, self.options.input_model)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as if it were not a workflow."""
        return self.function(*args, **kwargs)

    def bind(self, context: object, value: Any) -> functools.partial[Any]:
        """Return the call that runs the workflow on an input.

        Raises:
            InvalidInput: the input does not fit; `facts["errors"]` says where and why.
        """
        return self._input.bind(self.function, context, value)

    def record(self) -> WorkflowRecord:
        """Return what a worker registers of it."""
        options = self.options
        return WorkflowRecord(
            name=self.name,
            version=self.version,
            description=inspect.cleandoc(self.function.__doc__ or "").partition("\n\n")[0],
            input_schema=self._input.schema(),
            input_optional=self._input.is_optional(),
            timeout_ms=_ms(options.timeout),
            total_timeout_ms=_ms(options.total_timeout),
            start_within_ms=_ms(options.start_within),
            max_attempts=options.retries + 1,
            concurrency=options.concurrency,
            max_running=options.max_running,
            priority=str(options.priority),
        )

    def __repr__(self) -> str:
        return f"<Workflow {self.name} {self.version}>"


@overload
def workflow(function: WorkflowFunction, /) -> Workflow: ...
@overload
def workflow(
    *,
    name: str | None = None,
    version: str | None = None,
    input_model: Any = None,
    timeout: timedelta | float | None = None,
    total_timeout: timedelta | float | None = None,
    start_within: timedelta | float | None = None,
    retries: int = 0,
    retry_delay: timedelta | float = 1.0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    retry_on_crash: bool = True,
    concurrency: int | None = None,
    max_running: int | None = None,
    priority: str = "normal",
    keep_last: int | None = None,
    on_full: OnFull = "fail",
    log_events: str | None = None,
) -> Callable[[WorkflowFunction], Workflow]: ...


def workflow(function: WorkflowFunction | None = None, /, **options: Any) -> Any:
    """Make a function a workflow, bare (`@workflow`) or with `Options` (`@workflow(name="summarise", retries=2)`).

    The function's first argument is its `Context`. Whatever follows is its input: one argument takes the whole input,
    several take the fields of an input that is an object. Annotations, or `input_model`, say what fits. Async
    functions, sync functions (run in a thread) and generators of both kinds (what they yield is an event) will do.
    """
    if function is not None:
        return Workflow(function)
    check_names("@workflow", Options, options)
    return lambda function: Workflow(function, Options(**options))


def _ms(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds() * 1000)


def _shape(function: WorkflowFunction) -> Shape:
    if inspect.isasyncgenfunction(function):
        return Shape.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function):
        return Shape.COROUTINE
    if inspect.isgeneratorfunction(function):
        return Shape.GENERATOR
    return Shape.FUNCTION


def digest_of(code: WorkflowFunction | type) -> str:
    """Return what tells one version of a function's or class' source from another."""
    try:
        source = inspect.getsource(code)
    except (OSError, TypeError):
        return "unversioned"
    return hashlib.sha256(source.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class _Input:
    """What fits as input, and how it becomes arguments.

    Attributes:
        names: the arguments that are fields of the input, an object; None: one argument is the input as a whole.
        has_default: that one argument may be left out: an input of None is then none.
        keyword: that one argument's name, if it can only be given by it.
        by_position: those of `names` that can only be given by position; they come first.
    """

    adapter: TypeAdapter[Any]
    names: tuple[str, ...] | None
    has_default: bool = False
    keyword: str | None = None
    by_position: tuple[str, ...] = ()

    @classmethod
    def of(cls, function: WorkflowFunction, model: Any) -> "_Input":
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise TypeError(f"{function.__qualname__} can't be a workflow: its first argument must be the context")
        rest = parameters[1:]
        if any(p.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD) for p in rest):
            raise TypeError(f"{function.__qualname__} can't be a workflow: name its arguments instead of * or **")
        try:
            if model is None:
                rest = [_evaluated(p, function) for p in rest]
            by_position = tuple(p.name for p in rest if p.kind is inspect.Parameter.POSITIONAL_ONLY)
            if len(rest) == 1:
                has_default = rest[0].default is not inspect.Parameter.empty
                kind = _annotation(rest[0]) if model is None else model
                keyword = rest[0].name if rest[0].kind is inspect.Parameter.KEYWORD_ONLY else None
                return cls(TypeAdapter(kind), None, has_default, keyword=keyword)
            kind = _object_of(function.__name__, rest) if model is None else model
            return cls(TypeAdapter(kind), tuple(p.name for p in rest), by_position=by_position)
        except (PydanticUserError, NameError) as error:
            raise TypeError(f"the input of {function.__qualname__} can't be checked: {error}") from error

    def bind(self, function: WorkflowFunction, context: object, value: Any) -> functools.partial[Any]:
        if value is None:
            if self.has_default:
                return functools.partial(function, context)
            value = None if self.names is None else {}
        try:
            fitting = self.adapter.validate_python(value)
        except ValidationError as error:
            raise InvalidInput(
                f"the input does not fit {function.__name__}: {_summary(error)}",
                errors=[{"loc": list(item["loc"]), "msg": item["msg"]} for item in error.errors(include_url=False)],
            ) from None
        if self.keyword is not None:
            return functools.partial(function, context, **{self.keyword: fitting})
        if self.names is None:
            return functools.partial(function, context, fitting)
        values = {name: getattr(fitting, name) for name in self.names}
        return functools.partial(function, context, *(values.pop(name) for name in self.by_position), **values)

    def schema(self) -> dict[str, Any]:
        return self.adapter.json_schema()

    def is_optional(self) -> bool:
        """Whether no input at all will do, as `bind` takes it."""
        return self.has_default or (self.names is not None and not self.schema().get("required"))


def _evaluated(parameter: inspect.Parameter, function: WorkflowFunction) -> inspect.Parameter:
    # Only the input's: the context's class may be imported for type checkers alone.
    if not isinstance(parameter.annotation, str):
        return parameter
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return parameter.replace(annotation=eval(parameter.annotation, names))


def _annotation(parameter: inspect.Parameter) -> Any:
    return Any if parameter.annotation is parameter.empty else parameter.annotation


def _object_of(name: str, parameters: list[inspect.Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {p.name: (_annotation(p), ... if p.default is p.empty else p.default) for p in parameters}
    model: type[BaseModel] = create_model(
        name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields
    )
    if odd := sorted(fields.keys() - model.model_fields.keys()):
        raise TypeError(f"{name} can't be a workflow: pydantic takes no fields of the names {', '.join(odd)}")
    return model


def _summary(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "input"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {first['msg']}{more}"
