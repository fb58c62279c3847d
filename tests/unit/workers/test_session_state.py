"""What a workflow shares with its session's other tasks: from the workflows' loop, over the platform's."""

import asyncio
from typing import Any

import pytest

from tailplane.broker import Broker
from tailplane.protocol.errors import InvalidRequest, SessionNotFound, StateConflict, StoreUnavailable
from tailplane.protocol.ids import new_session_id
from tailplane.protocol.versioned import Versioned
from tailplane.workers import session_state as module
from tailplane.workers.bridge import Bridge
from tailplane.workers.context import Context
from tailplane.workers.session_state import SessionState

from .conftest import Outlet


@pytest.fixture
async def state(broker: Broker) -> SessionState:
    return SessionState(broker, Bridge(asyncio.get_running_loop()), "default", new_session_id())


async def on(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


async def test_it_is_awaited_on_another_loop(state: SessionState, workflows_loop: asyncio.AbstractEventLoop) -> None:
    async def workflow() -> Versioned:
        assert await state.get("k") == Versioned(None, 0)
        assert await state.set("k", {"a": 1}) == 1
        return await state.get("k")

    assert await on(workflows_loop, workflow()) == Versioned({"a": 1}, 1)


async def test_a_sync_workflow_s_thread_may_ask_too(state: SessionState) -> None:
    assert await asyncio.to_thread(lambda: asyncio.run(state.set("k", 1))) == 1


async def test_of_two_that_know_the_same_version_one_is_refused(state: SessionState) -> None:
    await state.set("k", "a", version=0)
    with pytest.raises(StateConflict) as caught:
        await state.set("k", "b", version=0)
    assert (caught.value.key, caught.value.expected, caught.value.found) == ("k", 0, 1)


async def test_no_update_is_lost(state: SessionState) -> None:
    await asyncio.gather(*(state.update("count", lambda value: (value or 0) + 1) for _ in range(20)))
    assert await state.get("count") == Versioned(20, 20)


async def test_a_change_may_be_awaited(state: SessionState) -> None:
    async def change(value: object) -> object:
        await asyncio.sleep(0)
        return [value]

    assert await state.update("k", change) == Versioned([None], 1)


async def test_an_update_gives_up_in_the_end(state: SessionState) -> None:
    calls = 0

    async def change(value: object) -> object:
        nonlocal calls
        calls += 1
        # Somebody else, each time.
        await state.set("k", calls)
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailplane.protocol.versioned.TRIES", 4)
        with pytest.raises(StateConflict):
            await state.update("k", change)
    assert calls == 4


async def test_a_task_without_a_session_is_told(broker: Broker) -> None:
    state = SessionState(broker, Bridge(asyncio.get_running_loop()), "default", None)
    for ask in (state.get("k"), state.set("k", 1), state.update("k", lambda value: value)):
        with pytest.raises(SessionNotFound, match="belongs to no session") as caught:
            await ask
        assert "session.run_workflow" in (caught.value.hint or "")


async def test_a_store_that_is_away_for_a_while_costs_nothing(
    state: SessionState, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, away = type(broker.states.wire).call, 3

    async def call(wire: Any, commands: Any) -> Any:
        nonlocal away
        replies = await run(wire, commands)
        if away:
            away -= 1
            # It was done, and nobody was told.
            raise StoreUnavailable("away")
        return replies

    monkeypatch.setattr(type(broker.states.wire), "call", call)
    assert await state.set("k", 1, version=0) == 1
    assert await state.get("k") == Versioned(1, 1)


async def test_one_that_stays_away_is_told(
    state: SessionState, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(*_: Any) -> Any:
        raise StoreUnavailable("away")

    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(type(broker.states.wire), "call", call)
    with pytest.raises(StoreUnavailable):
        await state.get("k")


async def test_what_can_t_be_a_key_is_told(state: SessionState) -> None:
    with pytest.raises(InvalidRequest):
        await state.get("no key")


def test_a_context_of_no_worker_has_none(outlet: Outlet) -> None:
    with pytest.raises(RuntimeError, match="no worker"):
        _ = Context("t_1", 1, "flow", None, {}, outlet.emitter()).session_state
