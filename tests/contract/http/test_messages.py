"""Messages to tasks over HTTP: taken once, told apart from what can't be taken; and what a task has done durably."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tailplane.broker import Broker, Claim, Closing, TaskRef
from tailplane.broker.memory import StepRecord
from tailplane.broker.parking import Parked
from tailplane.control_plane import Settings
from tailplane.protocol import codec
from tailplane.protocol.events import PlatformType, pack_platform_event
from tailplane.protocol.ids import TaskId, new_task_id
from tailplane.protocol.states import Trigger

MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
MESSAGE = {"type": "Approval", "data": {"approved": True}}


async def messages(broker: Broker, task_id: str) -> list[tuple[int, str | None, object]]:
    return [tuple(each) for each in await broker.inbox.read(TaskRef(TaskId(task_id)), 0)]


async def parked(broker: Broker, fleet: Any, task_id: str) -> Parked:
    """Let a task wait and be parked, as its worker does; return its place."""
    begun = await fleet.begin(task_id)
    last = pack_platform_event(PlatformType.PARKED, {})
    await broker.tasks.finish(begun.record.ref, Closing(Trigger.WAIT, begun.attempt, begun.seq, [last]))
    claim = Claim(begun.record.ref, "echo", timedelta())
    assert await broker.parking.park(fleet.worker_id, claim, None)
    return Parked(begun.record.ref, "echo")


class TestSending:
    async def test_a_message_is_taken_and_numbered(self, http: Any, broker: Broker, submit: Any) -> None:
        task_id = await submit()
        response = await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE)
        assert (response.status_code, response.json()) == (202, {"task_id": task_id, "number": 1})
        again = await http.post(f"/v1/tasks/{task_id}/events", json={})
        assert again.json()["number"] == 2
        assert await messages(broker, task_id) == [(1, "Approval", {"approved": True}), (2, None, None)]

    async def test_msgpack_carries_what_json_can_t(self, http: Any, broker: Broker, submit: Any) -> None:
        task_id = await submit()
        body = codec.pack({"type": "file", "data": {"bytes": b"\x00"}})
        response = await http.post(f"/v1/tasks/{task_id}/events", content=body, headers=MSGPACK)
        assert (response.status_code, codec.unpack(response.content)["number"]) == (202, 1)
        assert await messages(broker, task_id) == [(1, "file", {"bytes": b"\x00"})]

    async def test_a_message_may_be_sent_again_with_its_key(self, http: Any, broker: Broker, submit: Any) -> None:
        task_id, key = await submit(), {"Idempotency-Key": "k"}
        many = await asyncio.gather(
            *(http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE, headers=key) for _ in range(10))
        )
        assert {(each.status_code, each.json()["number"]) for each in many} == {(202, 1)}
        assert len(await messages(broker, task_id)) == 1
        packed = codec.pack(MESSAGE)
        again = await http.post(f"/v1/tasks/{task_id}/events", content=packed, headers=MSGPACK | key)
        assert codec.unpack(again.content)["number"] == 1

    async def test_another_message_with_the_key_is_409(self, http: Any, submit: Any) -> None:
        task_id, key = await submit(), {"Idempotency-Key": "k"}
        await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE, headers=key)
        response = await http.post(f"/v1/tasks/{task_id}/events", json={"type": "Other"}, headers=key)
        assert (response.status_code, response.json()["code"]) == (409, "idempotency_conflict")

    async def test_keys_are_each_task_s_own(self, http: Any, submit: Any) -> None:
        for _ in range(2):
            task_id = await submit()
            response = await http.post(
                f"/v1/tasks/{task_id}/events", json={"data": task_id}, headers={"Idempotency-Key": "k"}
            )
            assert response.json()["number"] == 1

    async def test_an_ended_task_is_409_and_says_how(self, http: Any, fleet: Any, submit: Any) -> None:
        task_id = await submit()
        await fleet.run(task_id)
        response = await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE)
        assert (response.status_code, response.json()["code"]) == (409, "task_ended")
        assert response.json()["state"] == "succeeded"

    async def test_an_unknown_task_is_404(self, http: Any, fleet: Any) -> None:
        response = await http.post(f"/v1/tasks/{new_task_id()}/events", json=MESSAGE)
        assert (response.status_code, response.json()["code"]) == (404, "task_not_found")

    async def test_one_whose_retention_has_passed_is_410(
        self, http: Any, broker: Broker, fleet: Any, submit: Any
    ) -> None:
        task_id = await submit()
        await fleet.run(task_id)
        await broker.tasks.discard(TaskRef(TaskId(task_id)))
        for response in (
            await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE),
            await http.get(f"/v1/tasks/{task_id}/steps"),
        ):
            assert (response.status_code, response.json()["code"]) == (410, "task_gone")

    @pytest.mark.parametrize("body", [{"type": ""}, {"type": "x" * 201}, {"type": 1}, {"unknown": 1}, []])
    async def test_what_is_no_message_is_422(self, http: Any, broker: Broker, submit: Any, body: object) -> None:
        task_id = await submit()
        response = await http.post(f"/v1/tasks/{task_id}/events", json=body)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
        assert await messages(broker, task_id) == []

    async def test_one_that_is_nested_too_deeply_is_422(self, http: Any, submit: Any) -> None:
        deep: object = None
        for _ in range(198):
            deep = [deep]
        task_id = await submit()
        taken = await http.post(f"/v1/tasks/{task_id}/events", json={"data": deep})
        refused = await http.post(f"/v1/tasks/{task_id}/events", json={"data": [[[deep]]]})
        assert (taken.status_code, refused.status_code) == (202, 422), refused.text

    async def test_a_huge_one_is_413(self, http: Any, settings: Settings, submit: Any) -> None:
        response = await http.post(f"/v1/tasks/{await submit()}/events", json={"data": "x" * settings.max_body_bytes})
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


class TestAFullInbox:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_messages": 2, "max_inbox_bytes": 1024})

    async def test_it_is_409_and_says_the_limit(self, http: Any, submit: Any) -> None:
        task_id = await submit()
        for number in range(2):
            await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE, headers={"Idempotency-Key": f"{number}"})
        response = await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE)
        assert (response.status_code, response.json()["code"], response.json()["limit"]) == (409, "inbox_full", 2)
        known = await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE, headers={"Idempotency-Key": "1"})
        assert known.json()["number"] == 2

    async def test_so_is_one_with_too_many_bytes(self, http: Any, submit: Any) -> None:
        task_id = await submit()
        answers = [await http.post(f"/v1/tasks/{task_id}/events", json={"data": "x" * 800}) for _ in range(2)]
        assert [(answer.status_code, answer.json().get("limit")) for answer in answers] == [(202, None), (409, 1024)]


class TestParked:
    async def test_a_message_brings_the_task_back_to_its_queue(
        self, http: Any, broker: Broker, fleet: Any, submit: Any
    ) -> None:
        task_id = await submit()
        await parked(broker, fleet, task_id)
        assert (await http.get(f"/v1/tasks/{task_id}")).json()["state"] == "waiting"
        await http.post(f"/v1/tasks/{task_id}/events", json=MESSAGE)
        assert (await fleet.begin(task_id)).attempt == 2

    async def test_it_may_be_cancelled_and_is_nowhere_then(
        self, http: Any, broker: Broker, fleet: Any, submit: Any
    ) -> None:
        task_id = await submit()
        await parked(broker, fleet, task_id)
        response = await http.post(f"/v1/tasks/{task_id}/cancel", json={"reason": "nobody answers"})
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        assert await broker.parking.page(0, 10) == []
        assert (await broker.queue.claim(fleet.worker_id, 10, {"echo": 10})).taken == []

    async def test_it_is_cancelled_with_its_session(self, http: Any, broker: Broker, fleet: Any) -> None:
        session = (await http.post("/v1/sessions")).json()["session_id"]
        made = await http.post(f"/v1/sessions/{session}/tasks", json={"workflow": "echo"})
        task_id = made.json()["task_id"]
        await parked(broker, fleet, task_id)
        await http.delete(f"/v1/sessions/{session}?cancel=true")
        assert (await http.get(f"/v1/tasks/{task_id}")).json()["state"] == "cancelled"
        assert await broker.parking.page(0, 10) == []

    async def test_it_is_listed_by_its_state(self, http: Any, broker: Broker, fleet: Any, submit: Any) -> None:
        task_id = await submit()
        await submit()
        await parked(broker, fleet, task_id)
        listed = (await http.get("/v1/tasks?state=waiting")).json()["tasks"]
        assert [task["task_id"] for task in listed] == [task_id]


class TestSteps:
    async def remember(self, broker: Broker, task_id: str, **steps: StepRecord) -> None:
        key = broker.keys.task(TaskRef(TaskId(task_id)))
        for step_id, step in steps.items():
            await broker.redis.hset(key, f"step:{step_id.strip('_')}", step.packed())  # type: ignore[misc]

    async def test_a_task_without_any_has_none(self, http: Any, submit: Any) -> None:
        response = await http.get(f"/v1/tasks/{await submit()}/steps")
        assert (response.status_code, response.json()) == (200, {"steps": []})

    async def test_they_come_in_the_order_in_which_they_began(self, http: Any, broker: Broker, submit: Any) -> None:
        task_id = await submit()
        await self.remember(
            broker,
            task_id,
            _0=StepRecord(name="load", started_at=1.0, attempt=1, ended_at=2.0, seqs=(3, 5), value=b"\x01"),
            _2=StepRecord(name="Approval", kind="wait", started_at=4.0, attempt=2, until=9.0),
            _1=StepRecord(
                name="call", started_at=3.0, attempt=2,
                error={"code": "workflow_error", "type": "builtins.OSError", "message": "away", "traceback": "T"},
            ),
        )  # fmt: skip
        expected = [
            {
                "id": "0", "name": "load", "kind": "step", "attempt": 1, "started_at": 1.0, "ended_at": 2.0,
                "seqs": [3, 5],
            },
            {
                "id": "1", "name": "call", "kind": "step", "attempt": 2, "started_at": 3.0,
                "error": {"code": "workflow_error", "type": "builtins.OSError", "message": "away"},
            },
            {"id": "2", "name": "Approval", "kind": "wait", "attempt": 2, "started_at": 4.0, "until": 9.0},
        ]  # fmt: skip
        assert (await http.get(f"/v1/tasks/{task_id}/steps")).json() == {"steps": expected}
        packed = await http.get(f"/v1/tasks/{task_id}/steps", headers={"Accept": "application/msgpack"})
        assert codec.unpack(packed.content) == {"steps": expected}

    async def test_an_unknown_task_is_404(self, http: Any, fleet: Any) -> None:
        response = await http.get(f"/v1/tasks/{new_task_id()}/steps")
        assert (response.status_code, response.json()["code"]) == (404, "task_not_found")

    async def test_a_task_tells_which_of_its_events_are_superseded(
        self, http: Any, broker: Broker, submit: Any
    ) -> None:
        task_id = await submit()
        key = broker.keys.task(TaskRef(TaskId(task_id)))
        fields = {"superseded": 12, "stand": codec.pack([1, 3, 6, 7]), "rewound": codec.pack([2, 2])}
        await broker.redis.hset(key, mapping=fields)  # type: ignore[misc]
        assert (await http.get(f"/v1/tasks/{task_id}")).json()["superseded"] == [[2, 2], [4, 5], [8, 12]]
