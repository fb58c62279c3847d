"""What can be a workflow, and how its input becomes arguments."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tailplane.protocol.errors import InvalidId, InvalidInput
from tailplane.workers import Workflow, workflow
from tailplane.workers.workflow import Options, Shape

if TYPE_CHECKING:
    from somewhere import NotImported


class Document(BaseModel):
    path: str
    words: int = 0


@dataclass
class Range:
    start: int
    stop: int


class Named(TypedDict):
    name: str


async def coroutine(ctx: object) -> None:
    """Say nothing."""


async def async_generator(ctx: object) -> AsyncIterator[int]:
    yield 1


def function(ctx: object) -> None: ...


def generator(ctx: object) -> Iterator[int]:
    yield 1


class TestDeclaration:
    def test_bare_it_takes_the_function_s_name_and_the_defaults(self) -> None:
        made = workflow(coroutine)
        assert isinstance(made, Workflow)
        assert (made.name, made.options) == ("coroutine", Options())

    def test_options_say_how_it_is_run(self) -> None:
        made = workflow(
            name="team.flow",
            version="2024-1",
            timeout=timedelta(seconds=1.5),
            total_timeout=timedelta(minutes=2),
            start_within=timedelta(hours=1),
            retries=2,
            retry_delay=timedelta(seconds=3),
            concurrency=4,
            max_running=6,
            priority="low",
        )(coroutine)
        assert (made.name, made.version) == ("team.flow", "2024-1")
        record = made.record()
        assert (record.name, record.version, record.description) == ("team.flow", "2024-1", "Say nothing.")
        assert (record.timeout_ms, record.total_timeout_ms, record.start_within_ms) == (1500, 120_000, 3_600_000)
        assert (record.max_attempts, record.concurrency) == (3, 4)
        assert (record.max_running, record.priority) == (6, "low")

    @pytest.mark.parametrize("name", ["timeout", "total_timeout", "start_within"])
    def test_a_time_of_nothing_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"^{name} must be longer"):
            workflow(**{name: timedelta()})(coroutine)

    def test_times_may_be_seconds(self) -> None:
        record = workflow(timeout=1.5, total_timeout=60)(coroutine).record()  # type: ignore[call-overload]
        assert (record.timeout_ms, record.total_timeout_ms) == (1500, 60_000)

    def test_what_is_no_time_is_refused_by_name(self) -> None:
        with pytest.raises(TypeError, match="timeout must be a timedelta, or a number of seconds, not '5s'"):
            workflow(timeout="5s")(coroutine)  # type: ignore[call-overload]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"retries": -1}, "retries must be at least 0, not -1"),
            ({"concurrency": 0}, "concurrency must be at least 1, not 0"),
            ({"max_running": 0}, "max_running must be at least 1, not 0"),
            ({"keep_last": 0}, "keep_last must be at least 1, not 0"),
            ({"retry_delay": -1}, "retry_delay must be at least 0, not -1 day"),
        ],
    )
    def test_numbers_that_mean_nothing_are_refused(self, options: dict[str, Any], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            workflow(**options)(coroutine)

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"retry": 2}, "@workflow has no option 'retry'; it has name, version, .*retries"),
            ({"retries": "2"}, "retries must be a whole number, not '2'"),
            ({"retry_on": [ValueError]}, "retry_on must be a class of exceptions, or a tuple of such classes, not "),
            ({"retry_on": (ValueError, "TimeoutError")}, "retry_on must be a class of exceptions"),
            ({"retry_on": ValueError()}, "retry_on must be a class of exceptions"),
        ],
    )
    def test_options_that_would_fail_with_the_first_failure_are_refused(
        self, options: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(TypeError, match=reason):
            workflow(**options)(coroutine)

    def test_a_policy_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(ValueError, match="on_full must be one of fail, block, coalesce, not 'drop'"):
            workflow(on_full="drop")(coroutine)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="priority must be one of high, normal, low, not 'urgent'"):
            workflow(priority="urgent")(coroutine)

    def test_it_stays_callable_as_the_function_it_is(self) -> None:
        @workflow
        async def double(ctx: object, n: int) -> int:
            """Double it."""
            return 2 * n

        assert asyncio.run(double(None, 21)) == 42
        assert (double.__name__, double.__doc__) == ("double", "Double it.")

    @pytest.mark.parametrize(
        ("made_of", "shape"),
        [
            (coroutine, Shape.COROUTINE),
            (async_generator, Shape.ASYNC_GENERATOR),
            (function, Shape.FUNCTION),
            (generator, Shape.GENERATOR),
        ],
    )
    def test_its_shape_is_that_of_the_function(self, made_of: Any, shape: Shape) -> None:
        assert workflow(made_of).shape is shape

    def test_its_version_changes_with_its_source_only(self) -> None:
        def one() -> Any:
            def flow(ctx: object) -> int:
                return 1

            return flow

        def two() -> Any:
            def flow(ctx: object) -> int:
                return 2

            return flow

        assert workflow(one()).version == workflow(one()).version != workflow(two()).version

    def test_a_function_without_source_is_unversioned(self) -> None:
        names: dict[str, Any] = {}
        exec("def flow(ctx): ...", names)
        assert workflow(names["flow"]).version == "unversioned"

    def test_a_description_is_the_docstring_s_first_paragraph(self) -> None:
        def flow(ctx: object) -> None:
            """Sum up
            a text.

            Details follow.
            """

        assert workflow(flow).record().description == "Sum up\na text."

    @pytest.mark.parametrize("name", ["", "1st", "a b", "a:b"])
    def test_a_name_that_can_be_none_is_refused(self, name: str) -> None:
        if name:
            with pytest.raises(InvalidId):
                workflow(name=name)(coroutine)
        with pytest.raises(InvalidId):
            workflow(lambda ctx: None)

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(TypeError):
            workflow(retrys=3)(coroutine)  # type: ignore[call-overload]


def no_argument() -> None: ...
def keyword_context(*, ctx: object) -> None: ...
def starred_context(*ctx: object) -> None: ...
def starred(ctx: object, *rest: int) -> None: ...
def double_starred(ctx: object, **rest: int) -> None: ...
def private(ctx: object, _a: int, b: int) -> None: ...
def reserved(ctx: object, model_config: int, b: int) -> None: ...
def unknown(ctx: object, n: NotImported) -> None: ...
def unknown_of_two(ctx: object, n: NotImported, m: int) -> None: ...
def unknown_inside(ctx: object, n: list[NotImported]) -> None: ...
def unchecked(ctx: object, n: asyncio.Queue[int]) -> None: ...


@pytest.mark.parametrize(
    ("made_of", "message"),
    [
        (no_argument, "first argument must be the context"),
        (keyword_context, "first argument must be the context"),
        (starred_context, "first argument must be the context"),
        (starred, "name its arguments instead of"),
        (double_starred, "name its arguments instead of"),
        (private, "no fields of the names _a"),
        (reserved, "no fields of the names model_config"),
        (unknown, "the input of unknown can't be checked: name 'NotImported' is not defined"),
        (unknown_of_two, "the input of unknown_of_two can't be checked"),
        (unknown_inside, "the input of unknown_inside can't be checked"),
        (unchecked, "the input of unchecked can't be checked"),
    ],
)
def test_a_signature_that_takes_no_input_is_refused_when_it_is_declared(made_of: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        workflow(made_of)


def nothing(ctx: object) -> object:
    return "nothing"


def untyped(ctx, value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, RUF100
    return value


def number(ctx: object, n: int) -> object:
    return n


def number_or_default(ctx: object, n: int = 7) -> object:
    return n


def optional(ctx: object, n: int | None) -> object:
    return n


def only_by_keyword(ctx: object, *, n: int) -> object:
    return n


def only_by_keyword_or_default(ctx: object, *, n: int = 7) -> object:
    return n


def only_by_position(ctx: object, n: int, /) -> object:
    return n


def several(ctx: object, a: int, b: str = "x") -> object:
    return [a, b]


def several_by_position(ctx: object, a: int, b: str = "x", /, c: int = 3, *, d: int = 4) -> object:
    return [a, b, c, d]


def all_default(ctx: object, a: int = 1, b: int = 2) -> object:
    return [a, b]


def model(ctx: object, document: Document) -> object:
    return document


def model_or_none(ctx: object, document: Document | None = None) -> object:
    return document


def annotated(ctx: object, n: Annotated[int, Field(ge=0)]) -> object:
    return n


def literal(ctx: object, word: Literal["a", "b"]) -> object:
    return word


def typed_dict(ctx: object, named: Named) -> object:
    return named


def data(ctx: object, span: Range) -> object:
    return span


def moment(ctx: object, at: datetime) -> object:
    return at


def blob(ctx: object, raw: bytes) -> object:
    return raw


def many(ctx: object, documents: list[Document]) -> object:
    return documents


def context_unknown(ctx: NotImported, n: int) -> NotImported:
    return n  # type: ignore[no-any-return]


FITS: list[tuple[Any, object, object]] = [
    (nothing, None, "nothing"),
    (nothing, {}, "nothing"),
    (untyped, None, None),
    (untyped, [1, {"a": b"x"}], [1, {"a": b"x"}]),
    (number, 5, 5),
    (number, "5", 5),
    (number_or_default, None, 7),
    (number_or_default, 5, 5),
    (optional, None, None),
    (optional, 5, 5),
    (only_by_keyword, 5, 5),
    (only_by_keyword_or_default, 5, 5),
    (only_by_keyword_or_default, None, 7),
    (only_by_position, 5, 5),
    (several, {"a": 1}, [1, "x"]),
    (several, {"a": 1, "b": "y"}, [1, "y"]),
    (several_by_position, {"a": 1}, [1, "x", 3, 4]),
    (several_by_position, {"a": 1, "b": "y", "c": 5, "d": 6}, [1, "y", 5, 6]),
    (all_default, None, [1, 2]),
    (all_default, {}, [1, 2]),
    (all_default, {"b": 5}, [1, 5]),
    (model, {"path": "a"}, Document(path="a")),
    (model_or_none, None, None),
    (model_or_none, {"path": "a", "words": 3}, Document(path="a", words=3)),
    (annotated, 0, 0),
    (literal, "a", "a"),
    (typed_dict, {"name": "a"}, {"name": "a"}),
    (data, {"start": 1, "stop": 2}, Range(1, 2)),
    (moment, datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)),
    (moment, "2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
    (blob, b"\xff", b"\xff"),
    (many, [{"path": "a"}], [Document(path="a")]),
    (context_unknown, 5, 5),
]


def case(argument: object) -> str | None:
    """Name a case by its function and its input."""
    return argument.__name__ if inspect.isfunction(argument) else repr(argument)


@pytest.mark.parametrize(("made_of", "value", "result"), FITS, ids=case)
def test_an_input_that_fits_becomes_the_arguments(made_of: Any, value: object, result: object) -> None:
    assert workflow(made_of).bind("the context", value)() == result


DOES_NOT_FIT: list[tuple[Any, object, list[Any]]] = [
    (nothing, {"a": 1}, ["a"]),
    (nothing, 5, []),
    (number, None, []),
    (number, "five", []),
    (number_or_default, "five", []),
    (several, None, ["a"]),
    (several, {"b": "y"}, ["a"]),
    (several, {"a": "one"}, ["a"]),
    (several, {"a": 1, "c": 2}, ["c"]),
    (several, [1, "x"], []),
    (model, {"path": 5}, ["path"]),
    (model, {}, ["path"]),
    (annotated, -1, []),
    (literal, "c", []),
    (typed_dict, {}, ["name"]),
    (many, [{"path": "a"}, {"words": 1}], [1, "path"]),
]


@pytest.mark.parametrize(("made_of", "value", "where"), DOES_NOT_FIT, ids=case)
def test_an_input_that_does_not_fit_is_refused_with_the_place(made_of: Any, value: object, where: list[Any]) -> None:
    with pytest.raises(InvalidInput, match=f"the input does not fit {made_of.__name__}: ") as caught:
        workflow(made_of).bind(None, value)
    first = caught.value.facts["errors"][0]
    assert first["loc"] == where
    assert first["msg"]
    assert sorted(first) == ["loc", "msg"]


def test_all_that_does_not_fit_is_told() -> None:
    with pytest.raises(InvalidInput, match="and 1 more") as caught:
        workflow(several).bind(None, {"a": "one", "b": 2})
    assert [error["loc"] for error in caught.value.facts["errors"]] == [["a"], ["b"]]


class TestInputModel:
    def test_it_overrides_the_annotation_of_one_argument(self) -> None:
        made = Workflow(untyped, Options(input_model=Document))
        assert made.bind(None, {"path": "a"})() == Document(path="a")
        with pytest.raises(InvalidInput):
            made.bind(None, {})

    def test_its_fields_become_several_arguments(self) -> None:
        def flow(ctx: object, path: Any, words: Any) -> object:
            return [path, words]

        made = Workflow(flow, Options(input_model=Document))
        assert made.bind(None, {"path": "a"})() == ["a", 0]

    def test_it_saves_annotations_that_only_type_checkers_know(self) -> None:
        assert Workflow(unknown, Options(input_model=int)).bind(None, 5).args == (None, 5)

    def test_a_default_may_be_left_out_all_the_same(self) -> None:
        made = Workflow(model_or_none, Options(input_model=Annotated[Document, "the best"]))
        assert made.bind(None, None)() is None


class TestSchema:
    @pytest.mark.parametrize("made_of", dict.fromkeys(made_of for made_of, *_ in FITS), ids=case)
    def test_every_workflow_that_can_be_declared_can_be_registered(self, made_of: Any) -> None:
        assert isinstance(workflow(made_of).record().input_schema, dict)

    def test_it_says_what_is_required(self) -> None:
        schema = workflow(several).record().input_schema
        assert (schema["required"], schema["additionalProperties"]) == (["a"], False)

    def test_where_nothing_is_required_no_input_will_do(self) -> None:
        for made_of, kind in ((all_default, "object"), (number_or_default, "integer")):
            record = workflow(made_of).record()
            assert record.input_optional
            # Null is not part of the schema: its errors would not say which field of an object is wrong.
            assert record.input_schema["type"] == kind
        assert not workflow(several).record().input_optional

    def test_anything_fits_what_is_not_annotated(self) -> None:
        assert workflow(untyped).record().input_schema == {}


def test_a_wrapped_function_is_checked_by_what_it_wraps() -> None:
    @functools.wraps(several)
    def wrapper(*args: Any, **kwargs: Any) -> object:
        return ["wrapped", *several(*args, **kwargs)]  # type: ignore[misc]

    assert workflow(wrapper).bind(None, {"a": 1})() == ["wrapped", 1, "x"]
    with pytest.raises(InvalidInput):
        workflow(wrapper).bind(None, {"a": "one"})
