"""What a client asks of a session's state, and what it makes of the answers."""

from typing import Any

import pytest

from tailplane.client import Client, StateConflict, Versioned
from tailplane.client.models import SessionInfo
from tailplane.client.session import Session
from tailplane.client.session_state import SessionState

pytestmark = pytest.mark.anyio


@pytest.fixture
def state(client: Client) -> SessionState:
    return Session(client._link, SessionInfo(session_id="s_1", created_at=1.0, closed=False)).state


def answered(value: object, version: int) -> dict[str, object]:
    return {"key": "k", "value": value, "version": version}


async def test_it_is_read(server: Any, wire: Any, state: SessionState) -> None:
    server.play(wire.answers(answered([1], 3)), wire.answers({"state": {"k": answered(b"x", 2)}}))
    assert await state.get("k") == Versioned([1], 3)
    assert await state.all() == {"k": Versioned(b"x", 2)}
    assert [(request.method, request.path) for request in server.requests] == [
        ("GET", "/v1/sessions/s_1/state/k"),
        ("GET", "/v1/sessions/s_1/state"),
    ]


async def test_it_is_set_and_a_lost_answer_asked_for_again(server: Any, wire: Any, state: SessionState) -> None:
    async def lose(exchange: Any) -> None:
        await exchange.cut()

    server.play(lose, wire.answers(answered(1, 4)), wire.answers(answered(2, 5)))
    assert await state.set("k", 1, version=3) == 4
    assert await state.set("k", 2) == 5
    first, again, other = server.requests
    assert (first.method, first.body, again.body, other.body) == (
        "PUT", {"value": 1, "version": 3}, {"value": 1, "version": 3}, {"value": 2},
    )  # fmt: skip
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert keys[0] == keys[1] != keys[2]


async def test_a_conflict_is_raised_with_its_facts(server: Any, wire: Any, state: SessionState) -> None:
    server.play(wire.refuses(412, "state_conflict", key="k", expected=1, found=2))
    with pytest.raises(StateConflict) as caught:
        await state.set("k", 1, version=1)
    assert (caught.value.key, caught.value.expected, caught.value.found) == ("k", 1, 2)


async def test_an_update_begins_anew_where_somebody_came_between(server: Any, wire: Any, state: SessionState) -> None:
    server.play(
        wire.answers(answered(1, 1)),
        wire.refuses(412, "state_conflict", key="k", expected=1, found=2),
        wire.answers(answered(5, 2)),
        wire.answers(answered(6, 3)),
    )
    assert await state.update("k", lambda value: value + 1) == Versioned(6, 3)
    assert [request.body for request in server.requests] == [
        None, {"value": 2, "version": 1}, None, {"value": 6, "version": 2},
    ]  # fmt: skip
