"""What msgpack carries, as hypothesis strategies."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

# Without lone surrogates, which are no Unicode text.
text = st.text(st.characters(exclude_categories=("Cs",)))
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# Not of the first and last year, where a zone may lead out of what a datetime can be.
datetimes = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001
    datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=zones,
)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False) | text | st.binary() | datetimes
keys = text | integers | st.binary() | st.booleans() | datetimes
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda children: (
        st.lists(children, max_size=5)
        | st.lists(children, max_size=5).map(tuple)
        | st.dictionaries(keys, children, max_size=5)
    ),
    max_leaves=20,
)


def as_read(value: Any) -> Any:
    """Return what a reader gets of a value: tuples come back as lists, times in UTC."""
    match value:
        case list() | tuple():
            return [as_read(item) for item in value]
        case dict():
            return {as_read(key): as_read(item) for key, item in value.items()}
        case datetime():
            return value.astimezone(UTC)
        case _:
            return value


def nested(depth: int, value: object = 1) -> object:
    """Return `value` inside `depth` lists."""
    for _ in range(depth):
        value = [value]
    return value
