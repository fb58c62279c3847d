"""msgpack: what travels comes back, what can't is refused with its reason, and malformed bytes harm nobody."""

import enum
import math
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field, field_serializer

from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidRequest, Unserialisable

from .strategies import as_read, nested, values

NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Pair(NamedTuple):
    left: int
    right: str


class Point(BaseModel):
    x: int
    y: float = 0.5


class Everything(BaseModel):
    """A field of each kind that msgpack lacks, and of some that it has."""

    id: uuid.UUID
    price: Decimal
    blob: bytes
    at: datetime
    day: date
    took: timedelta
    colour: Colour
    level: Level
    tags: set[str]
    pair: tuple[int, str]
    point: Point
    path: Path
    by_id: dict[uuid.UUID, Point]
    nothing: None = None
    deep: list[dict[str, list[Decimal]]]


EVERYTHING = Everything(
    id=uuid.UUID(int=7),
    price=Decimal("0.1000000000000000000000001"),
    blob=b"\xff\x00\xfe",
    at=datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
    day=date(2024, 2, 29),
    took=timedelta(days=1, microseconds=1),
    colour=Colour.RED,
    level=Level.HIGH,
    tags={"a", "b"},
    pair=(1, "one"),
    point=Point(x=1),
    path=Path("/tmp/x"),
    by_id={uuid.UUID(int=8): Point(x=2)},
    deep=[{"a": [Decimal("1.5")]}],
)


@given(values)
def test_what_was_packed_is_read_back(value: object) -> None:
    assert codec.unpack(codec.pack(value)) == as_read(value)


@given(values)
def test_the_incremental_reader_reads_the_same(value: object) -> None:
    unpacker = codec.unpacker(1_000_000)
    packed = codec.pack(value) * 2
    read = []
    for start in range(0, len(packed), 7):
        unpacker.feed(packed[start : start + 7])
        read += list(unpacker)
    assert read == [as_read(value)] * 2


def test_not_a_number_and_infinities_travel() -> None:
    nan, inf, minus = codec.unpack(codec.pack([math.nan, math.inf, -math.inf]))
    assert math.isnan(nan)
    assert (inf, minus) == (math.inf, -math.inf)


def test_a_datetime_comes_back_as_the_same_moment_in_utc() -> None:
    there = datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-11, minutes=-30)))
    back = codec.unpack(codec.pack(there))
    assert (back, back.tzinfo) == (there, UTC)


@pytest.mark.parametrize("value", [Level.HIGH, Pair(1, "b"), bytearray(b"x"), memoryview(b"y")])
def test_kinds_of_what_travels_travel_as_what_they_are_kinds_of(value: Any) -> None:
    plain = {Level: 3, Pair: [1, "b"], bytearray: b"x", memoryview: b"y"}[type(value)]
    assert codec.unpack(codec.pack(value)) == plain


@dataclass
class Size:
    width: int


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Size(1), "dataclasses.asdict(it)"),
        ({1, 2}, "sorted(it)"),
        (uuid.UUID(int=1), "str(it)"),
        (Decimal(1), "str(it)"),
        (Path("x"), "str(it)"),
        (object(), "send str, numbers, bytes"),
    ],
)
def test_what_can_t_be_sent_is_refused_with_what_would_do(value: object, words: str) -> None:
    with pytest.raises(Unserialisable) as caught:
        codec.pack({"inside": [value]})
    assert words in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({1, 2}, "a builtins.set can't be sent", id="set"),
        pytest.param(object(), "a builtins.object can't be sent", id="object"),
        pytest.param(Decimal(1), "a decimal.Decimal can't be sent", id="decimal"),
        pytest.param(uuid.UUID(int=1), "a uuid.UUID can't be sent", id="uuid"),
        pytest.param(date(2024, 1, 1), "a datetime.date can't be sent", id="date"),
        pytest.param(time(1), "a datetime.time can't be sent", id="time"),
        pytest.param(timedelta(1), "a datetime.timedelta can't be sent", id="timedelta"),
        pytest.param(Colour.RED, r"a .*\.Colour can't be sent", id="enum"),
        pytest.param(1j, "a builtins.complex can't be sent", id="complex"),
        pytest.param(len, "a builtins.builtin_function_or_method can't be sent", id="function"),
        pytest.param(Point, "can't be sent", id="class"),
        pytest.param(2**64, "an int over 64 bits can't be sent: send it as a str", id="large int"),
        pytest.param(-(2**63) - 1, "an int over 64 bits can't be sent: send it as a str", id="small int"),
        pytest.param(NAIVE, "a datetime without a time zone can't be sent", id="naive datetime"),
        pytest.param("\ud800", "a str with lone surrogates can't be sent", id="surrogate"),
        pytest.param({"\udfff": 1}, "a str with lone surrogates can't be sent", id="surrogate as key"),
        pytest.param(nested(2000), "the value can't be sent: recursion limit", id="very deep"),
        pytest.param(nested(1000), "the value is nested over 200 levels deep", id="deep"),
        pytest.param({"a": [nested(201)]}, "the value is nested over 200 levels deep", id="deep inside"),
        pytest.param({(1, 2): 3}, "could not be read back: unhashable type: 'list'", id="tuple as key"),
        pytest.param({frozenset(): 1}, "a builtins.frozenset can't be sent", id="frozenset as key"),
        pytest.param(msgpack.ExtType(5, b""), "could not be read back: msgpack extension type 5", id="extension"),
        pytest.param(
            datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))), "could not be read back", id="year 10000"
        ),
        pytest.param(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), "could not be read back", id="year 0"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"in": [value]}], ids=["itself", "inside"])
def test_what_can_not_travel_is_refused_with_its_reason(
    value: object, message: str, wrap: Callable[[object], object]
) -> None:
    with pytest.raises(Unserialisable, match=message):
        codec.pack(wrap(value))


@pytest.mark.parametrize(
    "beside",
    [None, (1, 2), b"\x91" * 300, datetime(2024, 2, 29, tzinfo=UTC)],
    ids=["alone", "with a tuple", "with what looks nested", "with a datetime"],
)
def test_an_extension_passes_where_its_reader_takes_it_whatever_is_beside_it(beside: object) -> None:
    value = {"ext": msgpack.ExtType(5, b"\xc7\x0c\xff" + b"\x91" * 300), "beside": beside}
    read = codec.unpack(codec.pack_plain(value), extensions=True)
    assert read["ext"] == value["ext"]
    with pytest.raises(Unserialisable, match="extension type 5"):
        codec.pack(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(Unserialisable, match="recursion limit"):
        codec.pack(circle)


def test_a_refused_value_leaves_nothing_behind() -> None:
    with pytest.raises(Unserialisable):
        codec.pack(["half a value", object()])
    assert codec.pack("whole") == b"\xa5whole"


@pytest.mark.parametrize("wide", [{}, {"list": list(range(500)), "text": "\x80" * 500, "bytes": b"\x91" * 500}])
def test_values_are_nested_up_to_a_bound_that_readers_can_take(wide: dict[str, object]) -> None:
    deepest = wide | {"deep": nested(codec.MAX_NESTING - 1)}
    assert codec.unpack(codec.pack(deepest)) == deepest
    with pytest.raises(Unserialisable, match="nested over 200 levels"):
        codec.pack(wide | {"deep": nested(codec.MAX_NESTING)})


def test_a_model_is_read_back_as_its_fields_and_makes_the_same_model() -> None:
    read = codec.unpack(codec.pack(EVERYTHING))
    assert read["blob"] == b"\xff\x00\xfe"
    assert read["at"] == EVERYTHING.at
    assert read["price"] == "0.1000000000000000000000001"
    assert Everything.model_validate(read, strict=False) == EVERYTHING


def test_a_model_inside_other_values_is_packed_too() -> None:
    assert codec.unpack(codec.pack({"points": [Point(x=1), Point(x=2)]})) == {
        "points": [{"x": 1, "y": 0.5}, {"x": 2, "y": 0.5}]
    }


def test_a_model_travels_without_what_it_computes() -> None:
    class Square(BaseModel):
        model_config = ConfigDict(extra="forbid")
        side: int = Field(alias="sideLength")

        @computed_field  # type: ignore[prop-decorator]
        @property
        def area(self) -> int:
            return self.side**2

    read = codec.dump_model(Square(sideLength=3))
    assert Square.model_validate(read, by_alias=True, by_name=True) == Square(sideLength=3)


def test_a_secret_is_not_told() -> None:
    class Login(BaseModel):
        password: SecretStr

    assert b"hunter2" not in codec.pack(Login(password=SecretStr("hunter2")))


class Holder(BaseModel):
    held: Any


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (object(), "a field of the model can't be sent"),
        (2**64, "an int over 64 bits"),
        ("\ud800", "lone surrogates"),
        ({(1, 2): 3}, "could not be read back"),
        (nested(600), "nested over 200 levels"),
        ({b"\xff"}, "can't be sent: .* invalid utf-8"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: [model]], ids=["itself", "inside"])
def test_a_field_that_can_not_travel_is_refused(held: object, message: str, wrap: Callable[[object], object]) -> None:
    with pytest.raises(Unserialisable, match=message):
        codec.pack(wrap(Holder(held=held)))


def test_a_serialiser_that_packs_does_not_mix_with_the_value_that_is_being_packed() -> None:
    inner: list[bytes] = []

    class Chatty(BaseModel):
        word: str

        @field_serializer("word")
        def tell(self, word: str) -> str:
            inner.append(codec.pack(["said", Point(x=1), word]))
            return word

    packed = codec.pack([1, Chatty(word="a"), 2, Holder(held=Chatty(word="b"))])
    assert codec.unpack(packed) == [1, {"word": "a"}, 2, {"held": {"word": "b"}}]
    assert [codec.unpack(each)[2] for each in inner] == ["a", "b"]


def test_threads_pack_at_once_without_mixing() -> None:
    value = {"text": "x" * 50, "points": [Point(x=n) for n in range(20)]}
    expected = codec.pack(value)
    wrong: list[bytes] = []
    together = threading.Barrier(4)

    def work() -> None:
        together.wait(10)
        wrong.extend(packed for _ in range(200) if (packed := codec.pack(value)) != expected)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


MALFORMED = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xc1", id="a byte that means nothing"),
    pytest.param(b"\x01\x02", id="two values"),
    pytest.param(b"\x92\x01", id="an array that is cut off"),
    pytest.param(b"\xa5hell", id="a str that is cut off"),
    pytest.param(b"\xcf\x00", id="an int that is cut off"),
    pytest.param(b"\xa1\xff", id="a str that is no UTF-8"),
    pytest.param(b"\xdd\xff\xff\xff\xff", id="an array of four billion"),
    pytest.param(b"\xdf\xff\xff\xff\xff\x01\x01", id="a map of four billion"),
    pytest.param(b"\xc6\xff\xff\xff\xff", id="bytes of four billion"),
    pytest.param(b"\xdb\xff\xff\xff\xff", id="a str of four billion"),
    pytest.param(b"\xc9\xff\xff\xff\xff\x05", id="an extension of four billion"),
    pytest.param(b"\x91" * 100_000 + b"\x01", id="nested a hundred thousand deep"),
    pytest.param(b"\x81" * 100_000, id="maps as keys, a hundred thousand deep"),
    pytest.param(b"\x81\x90\x01", id="a list as key"),
    pytest.param(b"\x81\x80\x01", id="a map as key"),
    pytest.param(b"\xd4\x05\x00", id="an unknown extension"),
    pytest.param(b"\xd4\xff\x00", id="a timestamp of one byte"),
    pytest.param(b"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", id="a timestamp with too many nanoseconds"),
    pytest.param(b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", id="a timestamp of the far future"),
]


@pytest.mark.parametrize("raw", MALFORMED)
def test_malformed_msgpack_is_an_invalid_request(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        codec.unpack(raw)
    assert type(caught.value) is InvalidRequest
    assert caught.value.detail.startswith(("malformed msgpack: ", "msgpack extension type 5 is not known"))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_invalid_request(raw: bytes) -> None:
    try:
        value = codec.unpack(raw)
    except InvalidRequest:
        return
    assert isinstance(value, str | bytes | int | float | list | dict | datetime | None)


def test_the_incremental_reader_holds_no_more_than_its_bound() -> None:
    unpacker = codec.unpacker(1000)
    with pytest.raises(msgpack.BufferFull):
        unpacker.feed(b"\xc6\x00\x00\x10\x00" + b"x" * 1000)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 65535, 65536])
def test_an_array_header_announces_its_items(length: int) -> None:
    assert codec.unpack(codec.array_header(length) + b"\x01" * length) == [1] * length
    assert codec.array_header(length) == msgpack.Packer().pack_array_header(length)
