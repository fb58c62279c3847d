"""Waiting for results: no wait needs a subscription of its own, and none hangs when a message is lost."""

import asyncio
from typing import Any

import pytest

from tailplane.broker import Broker
from tailplane.control_plane import ends as ends_module
from tailplane.control_plane.ends import Ends
from tailplane.protocol.states import Trigger

PATIENCE = 30
PREFER = {"Prefer": "wait=60"}


async def until_waiting(app: Any, count: int = 1) -> None:
    async with asyncio.timeout(PATIENCE):
        while app.state.services.ends.waiting_count != count:
            await asyncio.sleep(0.002)


async def until_queued(http: Any) -> str:
    async with asyncio.timeout(PATIENCE):
        while not (tasks := (await http.get("/v1/tasks")).json()["tasks"]):
            await asyncio.sleep(0.002)
    task_id: str = tasks[0]["task_id"]
    return task_id


async def test_many_wait_for_one_task_and_each_is_told(http: Any, app: Any, fleet: Any, submit: Any) -> None:
    task_id = await submit()
    begun = await fleet.begin(task_id)
    waiting = [asyncio.ensure_future(http.get(f"/v1/tasks/{task_id}/result?wait=60")) for _ in range(5)]
    await until_waiting(app, 5)

    await fleet.end(begun, Trigger.SUCCEED, "done")
    answers = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)

    assert [(answer.status_code, answer.json()["result"]) for answer in answers] == [(200, "done")] * 5
    assert app.state.services.ends.waiting_count == 0


async def test_a_wait_takes_no_subscription_and_no_feed(
    http: Any, app: Any, broker: Broker, fleet: Any, submit: Any
) -> None:
    task_id = await submit()
    waiting = asyncio.ensure_future(http.get(f"/v1/tasks/{task_id}/result?wait=60"))
    await until_waiting(app)

    channels = await broker.redis.pubsub_channels(f"{broker.keys.prefix}:*")

    # The one on which this process hears of ends.
    assert len(channels) == 1
    assert app.state.services.hub.feed_count == 0
    await fleet.run(task_id)
    assert (await asyncio.wait_for(waiting, PATIENCE)).json()["state"] == "succeeded"


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all messages be lost."""
    monkeypatch.setattr(Ends, "_hear", lambda *_: None)
    monkeypatch.setattr(ends_module, "LOOK_EVERY", 0.05)


@pytest.mark.usefixtures("deaf")
async def test_a_lost_message_is_made_up_for_by_a_look(http: Any, app: Any, fleet: Any, submit: Any) -> None:
    task_id = await submit()
    waiting = asyncio.ensure_future(http.get(f"/v1/tasks/{task_id}/result?wait=60"))
    await until_waiting(app)

    await fleet.run(task_id)

    assert (await asyncio.wait_for(waiting, PATIENCE)).json()["state"] == "succeeded"


async def test_what_ended_while_the_connection_was_lost_is_found_when_it_is_back(
    http: Any, app: Any, broker: Broker, fleet: Any, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends_module, "LOOK_EVERY", 3600)
    task_id = await submit()
    waiting = asyncio.ensure_future(http.get(f"/v1/tasks/{task_id}/result?wait=60"))
    await until_waiting(app)
    begun = await fleet.begin(task_id)

    await broker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await fleet.end(begun, Trigger.SUCCEED, "unheard")

    assert (await asyncio.wait_for(waiting, PATIENCE)).json()["result"] == "unheard"


async def test_who_goes_away_is_forgotten(http: Any, app: Any, submit: Any) -> None:
    task_id = await submit()
    waiting = asyncio.ensure_future(http.get(f"/v1/tasks/{task_id}/result?wait=60"))
    await until_waiting(app)

    waiting.cancel()

    await until_waiting(app, 0)


class TestPrefer:
    async def test_a_submit_is_answered_with_the_result(self, http: Any, app: Any, fleet: Any) -> None:
        posting = asyncio.ensure_future(http.post("/v1/tasks", json={"workflow": "echo"}, headers=PREFER))
        task_id = await until_queued(http)

        await fleet.run(task_id, {"answer": 42})
        response = await asyncio.wait_for(posting, PATIENCE)

        assert (response.status_code, response.json()["task_id"]) == (200, task_id)
        assert (response.json()["state"], response.json()["result"]) == ("succeeded", {"answer": 42})
        assert response.headers["location"] == f"/v1/tasks/{task_id}"
        assert response.headers["preference-applied"] == "wait=60"
        assert app.state.services.ends.waiting_count == 0

    async def test_a_failure_is_an_answer_too(self, http: Any, fleet: Any) -> None:
        posting = asyncio.ensure_future(http.post("/v1/tasks", json={"workflow": "echo"}, headers=PREFER))
        begun = await fleet.begin(await until_queued(http))

        error = {"code": "workflow_error", "type": "E", "message": "no"}
        await fleet.end(begun, Trigger.FAIL, error=error)
        response = await asyncio.wait_for(posting, PATIENCE)

        assert (response.status_code, response.json()["error"]) == (200, error)

    async def test_a_task_that_takes_longer_is_answered_as_it_is(self, http: Any, fleet: Any) -> None:
        response = await http.post("/v1/tasks", json={"workflow": "echo"}, headers={"Prefer": "wait=1"})

        assert (response.status_code, response.json()["state"]) == (202, "queued")
        assert response.headers["preference-applied"] == "wait=1"

    @pytest.mark.parametrize("wish", ["wait=0", "wait=soon", "respond-async", ""])
    async def test_without_a_wish_to_wait_it_is_answered_at_once(self, http: Any, fleet: Any, wish: str) -> None:
        response = await http.post("/v1/tasks", json={"workflow": "echo"}, headers={"Prefer": wish})

        assert response.status_code == 202
        assert "preference-applied" not in response.headers

    async def test_the_same_request_again_waits_for_the_same_task(self, http: Any, app: Any, fleet: Any) -> None:
        key = {"Idempotency-Key": "k"}
        first = await http.post("/v1/tasks", json={"workflow": "echo"}, headers=key)
        again = asyncio.ensure_future(http.post("/v1/tasks", json={"workflow": "echo"}, headers=key | PREFER))
        await until_waiting(app, 2)

        await fleet.run(first.json()["task_id"], "once")
        response = await asyncio.wait_for(again, PATIENCE)

        assert (response.status_code, response.json()["task_id"]) == (200, first.json()["task_id"])
        assert response.json()["result"] == "once"

    async def test_a_task_of_a_session_can_be_waited_for(self, http: Any, fleet: Any) -> None:
        session = (await http.post("/v1/sessions", json={})).json()["session_id"]
        url = f"/v1/sessions/{session}/tasks"
        posting = asyncio.ensure_future(http.post(url, json={"workflow": "echo"}, headers=PREFER))

        await fleet.run(await until_queued(http), "done")
        response = await asyncio.wait_for(posting, PATIENCE)

        assert (response.json()["session_id"], response.json()["result"]) == (session, "done")

    async def test_a_drain_ends_the_waiting(self, http: Any, app: Any, fleet: Any) -> None:
        posting = asyncio.ensure_future(http.post("/v1/tasks", json={"workflow": "echo"}, headers=PREFER))
        await until_waiting(app)
        await until_queued(http)

        app.state.drain.set()

        assert (await asyncio.wait_for(posting, PATIENCE)).status_code == 202
