"""Cancelling answers within about a second with a terminal state, whatever the worker is busy with."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tailplane.broker import Append, Broker, Entry, TaskRef
from tailplane.protocol import codec
from tailplane.protocol.events import join_events, pack_event, unpack_payload
from tailplane.protocol.ids import EntryId, TaskId, new_task_id
from tailplane.protocol.states import Trigger

# The promise is a second; a loaded machine gets some more.
IN_TIME = 3.0


async def last_event(broker: Broker, task_id: str) -> Any:
    entry = await newest_entry(broker, task_id)
    return unpack_payload(entry.id, entry.payload)[-1]


async def newest_entry(broker: Broker, task_id: str) -> Entry:
    entry = await broker.log.newest_entry(TaskRef(TaskId(task_id)))
    assert entry
    return entry


@pytest.fixture
async def control(broker: Broker, fleet: Any) -> AsyncIterator[Any]:
    """What the worker hears of cancellations."""
    async with broker.redis.pubsub() as pubsub:
        await pubsub.subscribe(broker.keys.control(fleet.worker_id))
        assert await pubsub.get_message(timeout=30)
        yield pubsub


async def test_a_queued_task_is_cancelled_at_once(http: Any, broker: Broker, fleet: Any, submit: Any) -> None:
    task_id = await submit()

    response = await http.post(f"/v1/tasks/{task_id}/cancel", json={"reason": "no longer needed"})

    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    assert (await last_event(broker, task_id)).data == {"reason": "no longer needed"}
    assert (await broker.queue.claim(fleet.worker_id, 10, {"echo": 10})).taken == []
    result = await http.get(f"/v1/tasks/{task_id}/result")
    assert (result.status_code, result.json()["state"]) == (200, "cancelled")


async def test_a_cancel_needs_no_body(http: Any, submit: Any) -> None:
    response = await http.post(f"/v1/tasks/{await submit()}/cancel")

    assert response.json()["state"] == "cancelled"


async def test_the_worker_is_told_and_ends_the_attempt_itself(
    http: Any, broker: Broker, fleet: Any, submit: Any, control: Any
) -> None:
    task_id = await submit()
    begun = await fleet.begin(task_id)

    cancelling = asyncio.create_task(http.post(f"/v1/tasks/{task_id}/cancel", json={"reason": "enough"}))
    heard = await control.get_message(ignore_subscribe_messages=True, timeout=30)
    await fleet.end(begun, Trigger.CANCEL)
    response = await cancelling

    assert codec.unpack(heard["data"]) == [TaskRef(TaskId(task_id)).member, "enough"]
    assert response.json()["state"] == "cancelled"
    # Its own entry, not one that fenced it off.
    assert (await newest_entry(broker, task_id)).id.fence == begun.attempt


async def test_a_running_task_of_a_dead_worker_is_cancelled_in_time(
    http: Any, broker: Broker, fleet: Any, submit: Any
) -> None:
    took = []
    # The median of five: two may meet a machine that stands still, and what is slow by itself makes more so.
    for _ in range(5):
        task_id = await submit()
        begun = await fleet.begin(task_id)
        started = time.monotonic()
        response = await http.post(f"/v1/tasks/{task_id}/cancel")
        took.append(time.monotonic() - started)
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        assert await broker.queue.held(fleet.worker_id) == {}
        # Should it live after all: what it still writes is refused.
        late = EntryId(begun.attempt, begun.seq + 1)
        (refusal,) = await broker.log.append([Append(begun.record.ref, late, join_events([pack_event("late")]))])
        assert refusal is not None
    assert statistics.median(took) < IN_TIME, took


async def test_what_ended_stays_as_it_ended(http: Any, fleet: Any, submit: Any) -> None:
    task_id = await submit()
    await fleet.run(task_id)

    responses = [await http.post(f"/v1/tasks/{task_id}/cancel") for _ in range(2)]

    assert [(each.status_code, each.json()["state"]) for each in responses] == [(200, "succeeded")] * 2


async def test_a_task_that_succeeds_meanwhile_has_succeeded(http: Any, fleet: Any, submit: Any, control: Any) -> None:
    task_id = await submit()
    begun = await fleet.begin(task_id)

    cancelling = asyncio.create_task(http.post(f"/v1/tasks/{task_id}/cancel"))
    assert await control.get_message(ignore_subscribe_messages=True, timeout=30)
    await fleet.end(begun, Trigger.SUCCEED)

    assert (await cancelling).json()["state"] == "succeeded"


async def test_a_task_that_never_was_is_404(http: Any) -> None:
    response = await http.post(f"/v1/tasks/{new_task_id()}/cancel")

    assert (response.status_code, response.json()["code"]) == (404, "task_not_found")


async def test_a_reason_of_the_wrong_kind_is_422(http: Any, submit: Any) -> None:
    task_id = await submit()

    response = await http.post(f"/v1/tasks/{task_id}/cancel", json={"reason": 7})

    assert response.status_code == 422
    assert (await http.get(f"/v1/tasks/{task_id}")).json()["state"] == "queued"
