"""set_state.lua: a value is set where nobody came between, once however often it is sent, and within its bounds."""

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tailplane.broker import Broker, SessionRef
from tailplane.broker import session_state as module
from tailplane.broker.session_state import MAX_VALUE_BYTES, pack_value
from tailplane.protocol.errors import InvalidRequest, StateConflict, StoreUnavailable, TooLarge, Unserialisable
from tailplane.protocol.ids import new_session_id
from tailplane.protocol.versioned import Versioned

REF = SessionRef(new_session_id())


async def set_(broker: Broker, value: object, version: int | None = None, call: str = "", key: str = "k") -> int:
    return await broker.states.set(REF, key, pack_value(value), version, call or str(id(object())))


async def test_a_value_that_was_never_set_has_version_0(broker: Broker) -> None:
    assert await broker.states.get(REF, "k") == Versioned(None, 0)
    assert await broker.states.all(REF) == {}


async def test_each_setting_counts(broker: Broker) -> None:
    for number, value in enumerate([{"a": [1, b"\x00 \xff"]}, None, "x" * 1000, 0, b"\x00"], 1):
        assert await set_(broker, value, call=f"call-{number}") == number
        assert await broker.states.get(REF, "k") == Versioned(value, number)
    assert await broker.states.all(REF) == {"k": Versioned(b"\x00", 5)}


@pytest.mark.parametrize("version", [0, 1, 3, 2**53])
async def test_another_version_than_the_one_that_is_there_is_refused(broker: Broker, version: int) -> None:
    await set_(broker, "a", call="one")
    await set_(broker, "b", call="two")
    with pytest.raises(StateConflict) as caught:
        await set_(broker, "c", version, "three")
    assert (caught.value.key, caught.value.expected, caught.value.found) == ("k", version, 2)
    assert await broker.states.get(REF, "k") == Versioned("b", 2)


async def test_the_version_that_is_there_is_taken(broker: Broker) -> None:
    assert await set_(broker, "a", 0, "one") == 1
    assert await set_(broker, "b", 1, "two") == 2


async def test_a_call_that_comes_again_changes_nothing(broker: Broker) -> None:
    for _ in range(3):
        assert await set_(broker, "a", 0, "one") == 1
    assert await set_(broker, "b", 1, "two") == 2
    # Somebody came between: it can't be told from another call any more.
    with pytest.raises(StateConflict):
        await set_(broker, "a", 0, "one")


async def test_a_reply_that_is_lost_is_asked_for_again(
    broker: Broker, lossy_broker: Broker, lose_next_reply: Callable[[], None]
) -> None:
    await lossy_broker.states.all(REF)
    lose_next_reply()
    with pytest.raises(StoreUnavailable):
        await set_(lossy_broker, "a", 0, "one")
    assert await broker.states.get(REF, "k") == Versioned("a", 1)
    assert await set_(lossy_broker, "a", 0, "one") == 1


async def test_of_many_at_once_one_wins(broker: Broker) -> None:
    made = await asyncio.gather(*(set_(broker, n, 0, f"call-{n}") for n in range(20)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in made) == ["StateConflict"] * 19 + ["int"]


async def test_the_keys_have_a_bound(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    for key in ("a", "b"):
        await set_(broker, 1, key=key)
    with pytest.raises(TooLarge, match="2 keys"):
        await set_(broker, 1, key="c")
    assert await set_(broker, 2, key="a", call="again") == 2


def test_a_value_has_a_bound() -> None:
    pack_value("x" * (MAX_VALUE_BYTES - 5))
    with pytest.raises(TooLarge):
        pack_value("x" * MAX_VALUE_BYTES)
    with pytest.raises(Unserialisable):
        pack_value({1, 2})


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 129, "a/b", "a\n"])
async def test_what_can_t_be_a_key_is_refused(broker: Broker, key: str) -> None:
    with pytest.raises(InvalidRequest):
        await set_(broker, 1, key=key)
    with pytest.raises(InvalidRequest):
        await broker.states.get(REF, key)


async def test_it_goes_with_its_session(broker: Broker, redis: Redis) -> None:
    await set_(broker, 1)
    ttl = await redis.pttl(broker.keys.session_state(REF.tenant, REF.session_id))
    assert 0 < ttl <= 24 * 3600 * 1000
