"""Two tenants of one deployment: neither sees, counts, holds up, cancels or changes anything of the other."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from tailplane.broker import Begun, Broker, Closing, TaskRef
from tailplane.broker.api_keys import NewKey
from tailplane.broker.claims import Order, Turn
from tailplane.control_plane import Settings
from tailplane.control_plane.housekeeping import Housekeeper
from tailplane.protocol import codec
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.events import PlatformType, pack_event, pack_platform_event
from tailplane.protocol.ids import TaskId, new_key_id
from tailplane.protocol.scopes import Scope
from tailplane.protocol.states import Trigger
from tests.contract.http.access_callers import bearer
from tests.contract.http.bare_call import Answer, call

NAMES = ("ada", "bob")
LIMIT = 20
NOON = 1_780_000_000_000
ERROR = {"code": "workflow_error", "type": "builtins.ValueError", "message": "no"}


@dataclass
class SetClock:
    """A clock that stands where the test puts it."""

    ms: int = NOON

    async def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    first = SecretStr(ApiKey.draw(new_key_id()).text)
    return settings.model_copy(update={"auth": "keys", "admin_key": first, "max_queued": LIMIT})


@dataclass
class Tenant:
    """A tenant's view of the deployment, and its part of the one worker."""

    name: str
    app: FastAPI
    fleet: Any
    key: str

    @property
    def broker(self) -> Broker:
        broker: Broker = self.app.state.services.broker
        return broker

    async def call(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        said = bearer(self.key) | {name.replace("_", "-"): value for name, value in headers.items()}
        return await call(self.app, method, url, headers=said, json_body=body)

    async def ask(self, method: str, url: str, body: Any = None, **headers: str) -> Any:
        answer = await self.call(method, url, body, **headers)
        assert answer.status < 300, (method, url, answer.body)
        return answer.json() if answer.body else None

    async def submit(self, session: str | None = None, **body: Any) -> str:
        url = f"/v1/sessions/{session}/tasks" if session else "/v1/tasks"
        made = await self.ask("POST", url, {"workflow": "echo"} | body)
        return str(made["task_id"])

    async def listed(self, url: str, of: str = "tasks", limit: int = 2, **query: str) -> list[Any]:
        """Return all that a listing has, page by page."""
        found: list[Any] = []
        more = {"limit": str(limit)} | query
        while True:
            page = await self.ask("GET", url + "?" + "&".join(f"{name}={value}" for name, value in more.items()))
            found += page[of]
            if page["next_page"] is None:
                return found
            more["page"] = page["next_page"]

    async def task_ids(self, **query: str) -> set[str]:
        return {task["task_id"] for task in await self.listed("/v1/tasks", **query)}

    async def letters(self) -> set[str]:
        return {letter["task_id"] for letter in await self.listed("/v1/dead-letters", "dead_letters")}

    async def schedules(self) -> dict[str, Any]:
        return {each["name"]: each for each in await self.listed("/v1/schedules", "schedules")}

    async def stream(self, url: str) -> list[dict[str, Any]]:
        """Return the lines of a stream that ends."""
        answer = await self.call("GET", url, accept="application/x-ndjson")
        assert answer.status == 200, answer.body
        return [json.loads(line) for line in answer.body.splitlines() if line]

    async def begin(self, task_id: str) -> Begun:
        """Begin an attempt of a task that the worker has claimed."""
        return await self.broker.tasks.begin(TaskRef(TaskId(task_id), self.name), self.fleet.worker_id, "host-1")

    async def finish(self, begun: Begun, trigger: Trigger = Trigger.SUCCEED) -> None:
        if trigger is Trigger.FAIL:
            kind, said = PlatformType.FAILED, {"error": ERROR}
            fields: list[bytes | str] = ["error", codec.pack(ERROR)]
        else:
            kind, said = PlatformType.SUCCEEDED, {"result": self.name}
            fields = ["result", codec.pack(self.name)]
        packed = [pack_event(f"secret of {self.name}"), pack_platform_event(kind, said)]
        await self.broker.tasks.finish(begun.record.ref, Closing(trigger, begun.attempt, begun.seq, packed, fields))
        if trigger is Trigger.FAIL:
            await self.broker.catalogue.note_dead(begun.record.ref)

    async def run(self, task_id: str, trigger: Trigger = Trigger.SUCCEED) -> None:
        """Run the tenant's one queued task to an end."""
        assert await claimed(self) == {(self.name, task_id)}
        await self.finish(await self.begin(task_id), trigger)


async def claimed(tenant: Tenant, most: int = 10) -> set[tuple[str, str]]:
    """Return the tasks that the one worker gets, whosever they are, with their tenants."""
    # All tenants' queues, whatever the worker knows of them.
    order = Order([Turn(), *(Turn(name, ["echo"]) for name in NAMES)], version=None)
    claims = await tenant.broker.queue.claim(tenant.fleet.worker_id, most, {"echo": most}, order)
    return {(claim.task.tenant, claim.task.task_id) for claim in claims.taken}


@pytest.fixture
async def tenants(app: FastAPI, broker: Broker, fleet: Any) -> tuple[Tenant, Tenant]:
    made = []
    for name in NAMES:
        await broker.tenants.note(name)
        _, key = await broker.api_keys.create(NewKey(tenant=name, name="test", scopes=frozenset({Scope.ADMIN})))
        made.append(Tenant(name, app, fleet, key.text))
    return made[0], made[1]


Two = tuple[Tenant, Tenant]


async def test_lists_have_the_tenants_own_on_every_page_whatever_they_are_asked_with(tenants: Two) -> None:
    own: dict[str, set[str]] = {"ada": set(), "bob": set()}
    sessions = {tenant.name: (await tenant.ask("POST", "/v1/sessions"))["session_id"] for tenant in tenants}
    for number in range(5):
        # In turn, so that each page would have some of the other's.
        for tenant in tenants:
            session = sessions[tenant.name] if number % 2 else None
            own[tenant.name].add(await tenant.submit(session))

    for tenant, other in (tenants, tenants[::-1]):
        mine, foreign = own[tenant.name], own[other.name]
        assert await tenant.task_ids() == mine
        assert await tenant.task_ids(state="queued", workflow="echo") == mine
        assert await tenant.task_ids(session_id=sessions[other.name]) == set()
        assert len(await tenant.task_ids(session_id=sessions[tenant.name])) == 2
        # An id of the other's as the place to go on from says a time, and nothing else.
        assert await tenant.task_ids(page=max(foreign)) == {each for each in mine if each < max(foreign)}


async def test_an_idempotency_key_is_each_tenants_own(tenants: Two) -> None:
    sessions = [await each.ask("POST", "/v1/sessions", {"metadata": {}}, idempotency_key="k") for each in tenants]
    # Other requests: with one memory for both they would be conflicts.
    tasks = [
        await each.ask("POST", "/v1/tasks", {"workflow": "echo", "input": each.name}, idempotency_key="t")
        for each in tenants
    ]
    again = [
        await each.ask("POST", "/v1/tasks", {"workflow": "echo", "input": each.name}, idempotency_key="t")
        for each in tenants
    ]

    assert len({each["session_id"] for each in sessions}) == 2
    assert len({each["task_id"] for each in tasks}) == 2
    assert [each["task_id"] for each in again] == [each["task_id"] for each in tasks]


async def test_sessions_are_each_tenants_own_with_what_their_tasks_say_and_share(tenants: Two) -> None:
    ada, bob = tenants
    sessions = []
    for tenant in tenants:
        session = (await tenant.ask("POST", "/v1/sessions"))["session_id"]
        sessions.append(session)
        await tenant.ask("PUT", f"/v1/sessions/{session}/state/plan", {"value": tenant.name, "version": 0})
        await tenant.run(await tenant.submit(session))
    for tenant, session in zip(tenants, sessions, strict=True):
        # One that is under way.
        await tenant.submit(session)

    # Whoever closes his with all that is in it leaves the other's alone.
    await ada.ask("DELETE", f"/v1/sessions/{sessions[0]}?cancel=true")

    assert (await bob.ask("GET", f"/v1/sessions/{sessions[1]}"))["closed"] is False
    assert {task["state"] for task in await bob.listed("/v1/tasks")} == {"succeeded", "queued"}
    assert {task["state"] for task in await ada.listed("/v1/tasks")} == {"succeeded", "cancelled"}
    await bob.ask("DELETE", f"/v1/sessions/{sessions[1]}?cancel=true")
    cursors = []
    for tenant, session in zip(tenants, sessions, strict=True):
        lines = await tenant.stream(f"/v1/sessions/{session}/events")
        said = {line["data"] for line in lines if isinstance(line.get("data"), str)}
        assert said == {f"secret of {tenant.name}"}
        assert {line["task_id"] for line in lines if "task_id" in line} == await tenant.task_ids()
        cursors.append(lines[-1]["cursor"])
        assert (await tenant.ask("GET", f"/v1/sessions/{session}/state"))["state"]["plan"]["value"] == tenant.name
    # A cursor of the other's session opens nothing of it.
    answer = await ada.call(
        "GET", f"/v1/sessions/{sessions[0]}/events?from={cursors[1]}", accept="application/x-ndjson"
    )
    assert answer.status == 416
    assert sessions[1] not in answer.body.decode()
    for task in await bob.task_ids():
        assert task not in answer.body.decode()


async def test_schedules_of_the_same_name_are_put_paused_fired_and_deleted_each_alone(
    tenants: Two, app: FastAPI, clock: SetClock
) -> None:
    ada, bob = tenants
    for tenant in tenants:
        body = {"workflow": "echo", "every_ms": 60_000, "input": tenant.name, "overlap": "cancel"}
        assert (await tenant.call("PUT", "/v1/schedules/job", body)).status == 201
    for tenant in tenants:
        assert (await tenant.ask("GET", "/v1/schedules/job"))["input"] == tenant.name
        assert set(await tenant.schedules()) == {"job"}

    clock.ms += 60_000
    while await app.state.services.scheduler.fire_due():
        pass
    fired = {tenant.name: await tenant.task_ids(schedule="job") for tenant in tenants}
    assert [len(each) for each in fired.values()] == [1, 1]
    assert not fired["ada"] & fired["bob"]

    await ada.ask("POST", "/v1/schedules/job/pause")
    clock.ms += 60_000
    while await app.state.services.scheduler.fire_due():
        pass
    # What the next run ends is the run before of the same schedule, and not of the other's.
    states = {tenant.name: sorted(task["state"] for task in await tenant.listed("/v1/tasks")) for tenant in tenants}
    assert states == {"ada": ["queued"], "bob": ["cancelled", "queued"]}

    triggered = await ada.ask("POST", "/v1/schedules/job/trigger", idempotency_key="k")
    assert triggered["task_id"] != (await bob.ask("POST", "/v1/schedules/job/trigger", idempotency_key="k"))["task_id"]
    await ada.ask("DELETE", "/v1/schedules/job")
    assert (await bob.ask("GET", "/v1/schedules/job"))["paused"] is False
    assert await ada.schedules() == {}


async def test_dead_letters_are_listed_counted_requeued_and_dropped_each_alone(
    tenants: Two, app: FastAPI, broker: Broker
) -> None:
    ada, bob = tenants
    failed = {}
    for tenant, count in ((ada, 3), (bob, 1)):
        failed[tenant.name] = [await tenant.submit() for _ in range(count)]
        assert len(await claimed(tenant)) == count
        for task in failed[tenant.name]:
            await tenant.finish(await tenant.begin(task), Trigger.FAIL)

    for tenant in tenants:
        assert await tenant.letters() == set(failed[tenant.name])
        assert (await tenant.ask("GET", "/v1/fleet"))["dead_letters"] == len(failed[tenant.name])
    await ada.ask("DELETE", f"/v1/dead-letters/{failed['ada'][0]}")
    again = await ada.ask("POST", f"/v1/dead-letters/{failed['ada'][1]}/requeue")
    assert again["task_id"] not in await bob.task_ids()
    assert await bob.letters() == set(failed["bob"])

    # What has gone of one is swept out of his own lists.
    gone = TaskRef(TaskId(failed["ada"][2]), "ada")
    await broker.tasks.discard(gone)
    keeper = Housekeeper(broker)
    assert (await keeper.forget_gone(), await keeper.forget_gone_letters()) == (1, 1)
    assert await ada.letters() == set()
    assert await bob.letters() == set(failed["bob"])
    assert set(failed["bob"]) <= await bob.task_ids()


async def test_the_fleet_shows_a_tenant_its_own_tasks_and_no_machines(tenants: Two, app: FastAPI) -> None:
    ada, bob = tenants
    waiting = [await ada.submit() for _ in range(3)]
    running = [await bob.submit() for _ in range(2)]
    await claimed(ada)
    for task in waiting:
        await ada.begin(task)
    await ada.submit()

    shown = {}
    for tenant in tenants:
        (worker,) = (await tenant.ask("GET", "/v1/workers"))["workers"]
        fleet = await tenant.ask("GET", "/v1/fleet")
        assert fleet["workers"][0].keys() == worker.keys()
        assert worker.keys().isdisjoint({"host", "pid"})
        assert (worker["worker_id"], worker["workflows"]) == (tenant.fleet.worker_id, ["echo", "count"])
        depths = {queue["workflow"]: queue["depth"] for queue in fleet["queues"]}
        assert {queue["workers"] for queue in fleet["queues"]} == {1}
        shown[tenant.name] = (depths, worker["running"], fleet["workers"][0]["running"])
    assert shown == {"ada": ({"count": 0, "echo": 1}, 3, 3), "bob": ({"count": 0, "echo": 0}, len(running), 2)}

    # Who runs the deployment is told how it stands.
    first = app.state.services.settings.admin_key.get_secret_value()
    await app.state.services.broker.api_keys.put(
        NewKey(tenant="default", name="", scopes=frozenset({Scope.ADMIN})), ApiKey.parse(first)
    )
    operator = Tenant("default", app, ada.fleet, first)
    (worker,) = (await operator.ask("GET", "/v1/workers"))["workers"]
    fleet = await operator.ask("GET", "/v1/fleet")
    assert (worker["host"], worker["pid"], worker["running"]) == ("host-1", 42, 5)
    assert fleet["workers"][0]["running"] == 5
    assert {queue["workflow"]: queue["depth"] for queue in fleet["queues"]} == {"count": 0, "echo": 1}


async def test_a_concurrency_key_of_the_same_name_holds_up_nobody_elses_tasks(tenants: Two) -> None:
    ada, bob = tenants
    key = {"concurrency_key": "model", "concurrency_limit": 1}
    first, second = await ada.submit(**key), await ada.submit(**key)
    assert await claimed(ada) == {("ada", first)}

    theirs = await bob.submit(**key)

    assert await claimed(bob) == {("bob", theirs)}
    # And the limit that the newest task of a key sets is that of its own tenant's.
    await bob.submit(concurrency_key="model", concurrency_limit=5)
    assert second not in {task for _, task in await claimed(ada)}


async def test_a_full_queue_is_its_tenants_and_tells_nothing_of_others(tenants: Two) -> None:
    ada, bob = tenants
    for _ in range(LIMIT):
        await ada.submit()
    refused = await ada.call("POST", "/v1/tasks", {"workflow": "echo"})
    assert (refused.status, refused.json()["code"], refused.json()["depth"]) == (429, "queue_full", LIMIT)

    for place in range(LIMIT):
        task = await bob.ask("POST", "/v1/tasks", {"workflow": "echo"})
        assert task["position"] == place
    refused = await bob.call("POST", "/v1/tasks", {"workflow": "echo"})
    assert (refused.status, refused.json()["depth"]) == (429, LIMIT)


async def test_a_stream_that_its_tenant_reads_is_none_for_others(tenants: Two) -> None:
    ada, bob = tenants
    task = await ada.submit()
    await ada.run(task)
    # The window on it is here already, with all that is in it.
    assert [line.get("data") for line in await ada.stream(f"/v1/tasks/{task}/events")][2] == "secret of ada"

    for url in (
        f"/v1/tasks/{task}/events",
        f"/v1/tasks/{task}/result?wait=5",
        f"/v1/tasks/{task}",
        f"/v1/tasks/{task}/steps",
    ):
        answer = await bob.call("GET", url)
        assert (answer.status, answer.json()["code"]) == (404, "task_not_found")
        assert b"secret" not in answer.body


async def test_messages_and_cancellations_reach_the_tenants_own_tasks_alone(tenants: Two) -> None:
    ada, bob = tenants
    mine, theirs = await ada.submit(), await bob.submit()

    for verb, body in (("events", {"type": "Go", "data": 1}), ("cancel", {"reason": "no"})):
        assert (await ada.call("POST", f"/v1/tasks/{theirs}/{verb}", body)).status == 404
        await ada.ask("POST", f"/v1/tasks/{mine}/{verb}", body)

    assert (await bob.ask("GET", f"/v1/tasks/{theirs}"))["state"] == "queued"
    assert not await bob.broker.inbox.read(TaskRef(TaskId(theirs), "bob"), 0)
    assert (await ada.ask("GET", f"/v1/tasks/{mine}"))["state"] == "cancelled"
