"""JSON of everything that msgpack can carry."""

import base64
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import codec, json_codec
from tailplane.protocol.errors import InvalidRequest

from .strategies import nested, values


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def expected_key(key: object) -> str:
    match key:
        case bytes():
            return base64.b64encode(key).decode()
        case datetime():
            return rfc3339(key)
        case bool() | None:
            return json.dumps(key)
        case _:
            return str(key)


def expected(value: Any) -> Any:
    """What a reader of the JSON sees of a value."""
    match value:
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case datetime():
            return rfc3339(value)
        case float() if not math.isfinite(value):
            return None
        case list():
            return [expected(item) for item in value]
        case dict():
            return {expected_key(key): expected(item) for key, item in value.items()}
        case _:
            return value


def strictly(raw: bytes) -> Any:
    """Return what a strict JSON parser reads: Python's own would take NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(raw, parse_constant=refuse)


@given(values)
def test_whatever_was_unpacked_becomes_json(value: object) -> None:
    read = codec.unpack(codec.pack(value))
    raw = json_codec.to_json(read)
    assert strictly(raw) == expected(read)
    assert b"\n" not in raw


@pytest.mark.parametrize("beside", [{}, {b"\xff": 1}], ids=["fast", "slow"])
@pytest.mark.parametrize(
    ("value", "form"),
    [
        ({"n": math.nan}, b'"n":null'),
        ({"n": math.inf}, b'"n":null'),
        ({"n": -math.inf}, b'"n":null'),
        ({True: 1}, b'"true":1'),
        ({False: 1}, b'"false":1'),
        ({None: 1}, b'"null":1'),
        ({7: 1}, b'"7":1'),
        ({1.5: 1}, b'"1.5":1'),
        ({datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC): 1}, b'"2024-02-29T01:02:03.000004Z":1'),
        ({"t": datetime(2024, 2, 29, tzinfo=UTC)}, b'"t":"2024-02-29T00:00:00Z"'),
        ({"b": b"\xff\x00"}, b'"b":{"$bytes":"/wA="}'),
        ({2**64 - 1: -(2**63)}, b'"18446744073709551615":-9223372036854775808'),
    ],
)
def test_a_value_has_one_form_whichever_way_it_is_written(
    value: dict[object, object], form: bytes, beside: dict[object, object]
) -> None:
    raw = json_codec.to_json(value | beside)
    assert form in raw
    strictly(raw)


@pytest.mark.parametrize("depth", [codec.MAX_NESTING, 253, 254, 255, 300])
@pytest.mark.parametrize("kind", ["lists", "maps"])
def test_json_tells_deeper_nesting_than_msgpack_is_let_carry(depth: int, kind: str) -> None:
    value: Any = nested(depth)
    if kind == "maps":
        value = 1
        for _ in range(depth):
            value = {"a": value}
    assert json_codec.to_json(value).count(b"[" if kind == "lists" else b"{") == depth


def test_text_is_told_whole_whichever_way_it_is_written() -> None:
    value = {"a": 'é \N{GRINNING FACE} \u2028 "\\ \x00'}
    assert strictly(json_codec.to_json(value)) == value
    assert strictly(json_codec.to_json(value | {b"k": 1})) == value | {"aw==": 1}


def test_json_is_compact() -> None:
    assert json_codec.to_json({"a": [1, 2], b"b": {"c": None}}) == b'{"a":[1,2],"Yg==":{"c":null}}'


@pytest.mark.parametrize("raw", [b"", b"{", b"{'a': 1}", b"[1,]", b"NaN", b"\xff", b"[" * 100_000, b"1 2", b"\x00"])
def test_malformed_json_is_an_invalid_request(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="malformed JSON: "):
        json_codec.from_json(raw)


@given(st.binary(max_size=50))
def test_any_bytes_are_json_or_an_invalid_request(raw: bytes) -> None:
    try:
        value = json_codec.from_json(raw)
    except InvalidRequest:
        return
    assert strictly(json_codec.to_json(value)) == value


def test_an_extension_can_be_a_key() -> None:
    # As another library's msgpack may have it in an event.
    value = codec.unpack(b"\x81\xd4\x05\x61\x01", extensions=True)

    assert json_codec.to_json(value) == b'{"5:YQ==":1}'
