"""Schedules over HTTP: put, paused, triggered and so on, and fired when they are due by a clock that the test sets."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from fastapi import FastAPI
from redis.exceptions import ResponseError

from tailplane.broker import Broker, NewTask, TaskRef
from tailplane.broker.records import Fired
from tailplane.control_plane import Settings, create_app
from tailplane.control_plane.metrics import registry
from tailplane.control_plane.scheduler import Scheduler
from tailplane.protocol import codec
from tailplane.protocol.events import unpack_payload
from tailplane.protocol.ids import EntryId, TaskId
from tailplane.protocol.states import Trigger

LIMIT = 20


@dataclass
class SetClock:
    """A clock that stands where the test puts it."""

    ms: int = 0

    async def now_ms(self) -> int:
        return self.ms

    def set(self, text: str) -> None:
        self.ms = int(datetime.fromisoformat(text).timestamp() * 1000)

    def on(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


@pytest.fixture
def clock() -> SetClock:
    clock = SetClock()
    clock.set("2026-06-01T12:00:00Z")
    return clock


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_queued": LIMIT})


@dataclass
class Bench:
    """What a test does with schedules."""

    http: Any
    app: FastAPI
    fleet: Any

    async def put(self, name: str = "job", status: int = 201, **body: Any) -> dict[str, Any]:
        if not body.keys() & {"cron", "every_ms", "run_at"}:
            body["cron"] = "*/10 * * * *"
        response = await self.http.put(f"/v1/schedules/{name}", json={"workflow": "echo"} | body)
        assert response.status_code == status, response.text
        made: dict[str, Any] = response.json()
        return made

    async def get(self, name: str = "job") -> dict[str, Any]:
        response = await self.http.get(f"/v1/schedules/{name}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def post(self, verb: str, name: str = "job", status: int = 200, **options: Any) -> dict[str, Any]:
        response = await self.http.post(f"/v1/schedules/{name}/{verb}", **options)
        assert response.status_code == status, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def fire(self) -> None:
        """Fire what is due; the application does so by itself, too."""
        scheduler: Scheduler = self.app.state.services.scheduler
        while await scheduler.fire_due():
            pass

    async def fired(self, name: str = "job") -> list[tuple[str, str]]:
        """Fire what is due; return the due times of all that was fired, and the tasks, the oldest first."""
        await self.fire()
        tasks = (await self.http.get("/v1/tasks", params={"schedule": name, "limit": 200})).json()["tasks"]
        return [(stamp(task["due_at"]), task["task_id"]) for task in reversed(tasks)]

    async def due_times(self, name: str = "job") -> list[str]:
        return [due for due, _ in await self.fired(name)]


def stamp(seconds: float) -> str:
    return (
        datetime.fromtimestamp(seconds)
        .astimezone(datetime.fromisoformat("2026-01-01T00:00:00Z").tzinfo)
        .strftime("%d %H:%M:%S")
    )


@pytest.fixture
def bench(http: Any, app: FastAPI, fleet: Any) -> Bench:
    return Bench(http, app, fleet)


async def test_a_schedule_is_answered_with_all_that_it_is(bench: Bench, clock: SetClock) -> None:
    asked = {
        "workflow": "count", "input": {"n": 3}, "metadata": {"team": "a"}, "cron": "30 3 * * *",
        "time_zone": "Europe/Berlin", "overlap": "skip", "catch_up": "all", "misfire_grace_ms": 60_000,
        "start_at": "2026-06-02T00:00:00Z", "end_at": 1798761600,
    }  # fmt: skip
    made = await bench.put("nightly", **asked)

    now = clock.ms / 1000
    assert made == asked | {
        "name": "nightly", "paused": False, "created_at": now, "updated_at": now, "start_at": 1780358400.0,
        "end_at": 1798761600.0, "next_at": 1780363800.0, "fired": 0, "missed": 0, "skipped": 0,
    }  # fmt: skip
    assert stamp(made["next_at"]) == "02 01:30:00"
    assert await bench.get("nightly") == made


async def test_what_is_due_is_fired_once_as_a_task_that_says_so(bench: Bench, clock: SetClock, broker: Broker) -> None:
    await bench.put("job", workflow="count", input={"n": 3}, metadata={"team": "a"}, cron="*/10 * * * *")
    assert await bench.due_times() == []
    clock.on(600)

    ((due, task_id),) = await bench.fired()
    await asyncio.gather(*(bench.fire() for _ in range(10)))

    assert due == "01 12:10:00"
    task = (await bench.http.get(f"/v1/tasks/{task_id}")).json()
    assert (task["state"], task["schedule"], task["metadata"]) == ("queued", "job", {"team": "a"})
    assert (task["workflow"], task["version"]) == ("count", "7")
    ref = TaskRef(TaskId(task_id))
    assert codec.unpack((await broker.tasks.read(ref, ("state", "input"))).input) == {"n": 3}
    ((entry,),) = await broker.log.read_after([(ref, EntryId(0, 0), 10)])
    (queued,) = unpack_payload(entry.id, entry.payload)
    assert queued.data == {"workflow": "count", "version": "7", "schedule": "job"}
    assert await broker.queue.depth("count") == 1
    found = await bench.get()
    assert (found["fired"], found["last_task_id"], stamp(found["last_due_at"])) == (1, task_id, "01 12:10:00")
    assert stamp(found["next_at"]) == "01 12:20:00"
    # By the server's clock, which is not the test's.
    assert found["last_fired_at"] == pytest.approx(task["created_at"], abs=5)


async def test_who_died_between_recording_and_queueing_leaves_nothing_undone_or_doubled(
    bench: Bench, clock: SetClock, broker: Broker
) -> None:
    await bench.put()
    clock.on(600)
    schedule = await broker.schedules.read("default", "job")
    task = schedule.task_at(clock.ms)
    if schedule.next_ms == clock.ms:
        fired = Fired("job", clock.ms)
        await broker.tasks.create(NewTask(task, "echo", "7", codec.pack(None), fired=fired))

    assert await bench.fired() == [("01 12:10:00", task.task_id)]
    await bench.fleet.run(task.task_id)


async def test_a_schedule_goes_on_from_one_due_time_to_the_next(bench: Bench, clock: SetClock) -> None:
    await bench.put(every_ms=90_000)
    for _ in range(4):
        clock.on(90)
        await bench.fire()

    assert await bench.due_times() == ["01 12:01:30", "01 12:03:00", "01 12:04:30", "01 12:06:00"]


async def test_what_comes_once_is_fired_once_and_stays_listed(bench: Bench, clock: SetClock) -> None:
    made = await bench.put(run_at="2026-06-01T12:30:00+00:00")
    clock.on(86_400 * 0.5)
    assert await bench.due_times() == ["01 12:30:00"]

    found = await bench.get()
    assert "next_at" not in found
    # A deployment that puts its schedules again and again does not mind.
    assert await bench.put(run_at="2026-06-01T12:30:00+00:00", status=200) == found
    assert found["created_at"] == made["created_at"]
    assert await bench.due_times() == ["01 12:30:00"]


async def test_where_the_clocks_change_a_schedule_goes_by_its_zone(bench: Bench, clock: SetClock) -> None:
    clock.set("2026-10-24T20:00:00Z")
    await bench.put("fixed", cron="30 2 * * *", time_zone="Europe/Berlin")
    await bench.put("twice", cron="*/30 2 * * *", time_zone="Europe/Berlin")
    for _ in range(20):
        clock.on(1800)
        await bench.fire()

    assert await bench.due_times("fixed") == ["25 00:30:00"]
    assert await bench.due_times("twice") == ["25 00:00:00", "25 00:30:00", "25 01:00:00", "25 01:30:00"]


async def test_of_what_was_missed_the_latest_is_fired(bench: Bench, clock: SetClock) -> None:
    await bench.put(cron="*/10 * * * *")
    clock.on(3600 + 120)

    assert await bench.due_times() == ["01 13:00:00"]
    found = await bench.get()
    assert (found["fired"], found["missed"], stamp(found["next_at"])) == (1, 5, "01 13:10:00")


async def test_all_that_was_missed_is_fired_where_that_is_wanted_and_within_its_grace(
    bench: Bench, clock: SetClock
) -> None:
    await bench.put(cron="*/10 * * * *", catch_up="all", misfire_grace_ms=1_800_000)
    clock.on(3600 + 120)

    assert await bench.due_times() == ["01 12:40:00", "01 12:50:00", "01 13:00:00"]
    # Those beyond the grace count as one.
    assert ((await bench.get())["fired"], (await bench.get())["missed"]) == (3, 1)


async def test_what_is_later_than_its_grace_is_not_fired(bench: Bench, clock: SetClock) -> None:
    await bench.put(cron="0 0 * * *", misfire_grace_ms=600_000)
    await bench.put("once", run_at="2026-06-01T13:00:00Z", misfire_grace_ms=600_000)
    clock.set("2026-06-02T00:10:01Z")

    assert await bench.due_times() == []
    assert await bench.due_times("once") == []
    assert (await bench.get())["missed"] == 1
    assert stamp((await bench.get())["next_at"]) == "03 00:00:00"
    assert "next_at" not in await bench.get("once")


async def test_a_due_time_is_skipped_while_the_run_before_goes_on(bench: Bench, clock: SetClock) -> None:
    await bench.put(overlap="skip")
    clock.on(600)
    ((_, first),) = await bench.fired()
    begun = await bench.fleet.begin(first)
    clock.on(600)
    assert await bench.due_times() == ["01 12:10:00"]
    assert ((await bench.get())["fired"], (await bench.get())["skipped"]) == (1, 1)

    await bench.fleet.end(begun, Trigger.SUCCEED)
    clock.on(600)

    assert await bench.due_times() == ["01 12:10:00", "01 12:30:00"]


async def test_the_run_before_is_cancelled_where_that_is_wanted(bench: Bench, clock: SetClock) -> None:
    await bench.put(overlap="cancel")
    clock.on(600)
    ((_, first),) = await bench.fired()
    await bench.fleet.begin(first)
    clock.on(600)

    (_, (due, second)) = await bench.fired()

    assert (await bench.http.get(f"/v1/tasks/{first}")).json()["state"] == "cancelled"
    assert (due, (await bench.http.get(f"/v1/tasks/{second}")).json()["state"]) == ("01 12:20:00", "queued")


async def test_runs_go_on_side_by_side_where_nothing_else_is_said(bench: Bench, clock: SetClock) -> None:
    await bench.put()
    for _ in range(3):
        clock.on(600)
        await bench.fire()

    states = [(await bench.http.get(f"/v1/tasks/{task}")).json()["state"] for _, task in await bench.fired()]
    assert states == ["queued"] * 3


async def test_a_paused_schedule_fires_nothing_and_misses_nothing(bench: Bench, clock: SetClock) -> None:
    await bench.put()
    paused = await bench.post("pause")
    assert (paused["paused"], "next_at" in paused) == (True, False)
    clock.on(3600)
    assert await bench.due_times() == []

    resumed = await bench.post("resume")

    assert (resumed["paused"], stamp(resumed["next_at"]), resumed["missed"]) == (False, "01 13:10:00", 0)
    assert await bench.post("resume") == resumed
    clock.on(600)
    assert await bench.due_times() == ["01 13:10:00"]


async def test_an_interval_keeps_its_beat_over_a_pause(bench: Bench, clock: SetClock) -> None:
    await bench.put(every_ms=60_000)
    await bench.post("pause")
    clock.on(90)
    assert stamp((await bench.post("resume"))["next_at"]) == "01 12:02:00"


async def test_what_replaces_a_schedule_fires_no_due_time_twice(bench: Bench, clock: SetClock) -> None:
    await bench.put()
    clock.on(600)
    ((_, task),) = await bench.fired()
    # Its clock may be a little behind that of who has fired it.
    clock.on(-1)

    replaced = await bench.put(cron="*/5 * * * *", status=200)

    assert (replaced["fired"], replaced["last_task_id"]) == (1, task)
    assert stamp(replaced["next_at"]) == "01 12:15:00"
    clock.on(301)
    assert await bench.due_times() == ["01 12:10:00", "01 12:15:00"]


async def test_replaced_while_it_is_fired_each_due_time_comes_once(bench: Bench, clock: SetClock) -> None:
    await bench.put()
    for minute in range(10, 210, 10):
        clock.on(600)
        await asyncio.gather(*(bench.fire() for _ in range(3)), bench.put(metadata={"at": str(minute)}, status=200))

    times = [datetime.fromisoformat("2026-06-01T12:00:00Z").timestamp() + 600 * (i + 1) for i in range(20)]
    assert await bench.due_times() == [stamp(each) for each in times]


async def test_a_deleted_schedule_fires_nothing_and_its_tasks_go_on(bench: Bench, clock: SetClock) -> None:
    await bench.put()
    clock.on(600)
    ((_, task),) = await bench.fired()

    answers = [await bench.http.delete("/v1/schedules/job") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 404]
    assert answers[1].json()["code"] == "schedule_not_found"
    clock.on(600)
    assert [found for _, found in await bench.fired()] == [task]
    assert (await bench.http.get(f"/v1/tasks/{task}")).json()["state"] == "queued"
    assert (await bench.http.get("/v1/schedules/job")).status_code == 404


async def test_a_trigger_runs_it_now_and_leaves_its_due_times_alone(bench: Bench, clock: SetClock) -> None:
    await bench.put(overlap="skip", workflow="count", input={"n": 3})
    await bench.post("pause")
    headers = {"Idempotency-Key": "now"}

    tasks = [await bench.post("trigger", status=201, headers=headers) for _ in range(2)]

    assert tasks[0]["task_id"] == tasks[1]["task_id"]
    assert tasks[0]["schedule"] == "job"
    assert "due_at" not in tasks[0]
    assert "last_task_id" not in await bench.get()
    await bench.post("resume")
    clock.on(600)
    # It has not ended, and is no run before.
    await bench.fire()
    assert (await bench.get())["fired"] == 1


async def test_a_schedule_whose_queue_is_full_waits_for_room(bench: Bench, clock: SetClock, submit: Any) -> None:
    tasks = [await submit() for _ in range(LIMIT)]
    await bench.put()
    clock.on(600)
    assert await bench.due_times() == []

    await bench.fleet.run(tasks[0])

    assert await bench.due_times() == ["01 12:10:00"]


async def test_a_schedule_that_can_not_be_fired_holds_up_no_other(
    bench: Bench, clock: SetClock, broker: Broker
) -> None:
    await bench.put("bad")
    await bench.put("good")
    bad = await broker.schedules.read("default", "bad")
    task = broker.keys.task(bad.task_at(clock.ms + 600_000))
    await broker.redis.set(task, "no record")
    clock.on(600)

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await bench.fire()

    found = await bench.get("good")
    assert (found["fired"], stamp(found["next_at"])) == (1, "01 12:20:00")
    await broker.redis.delete(task)
    assert await bench.due_times("bad") == ["01 12:10:00"]


async def test_an_input_that_does_not_fit_any_more_is_left_to_the_worker(bench: Bench, clock: SetClock) -> None:
    await bench.put(input={"a": 1})
    await bench.fleet.register(echo={"type": "object", "required": ["n"]})
    clock.on(600)
    assert await bench.due_times() == ["01 12:10:00"]


async def test_due_times_are_counted_by_what_became_of_them(bench: Bench, clock: SetClock) -> None:
    await bench.put(overlap="skip")
    for minutes in (30, 10):
        clock.on(60 * minutes)
        await bench.fire()

    samples = {
        sample.labels["outcome"]: sample.value
        for family in registry(bench.app).collect()
        for sample in family.samples
        if sample.name == "tailplane_schedule_due_times_total"
    }
    assert samples == {"fired": 1, "missed": 2, "skipped": 1}


async def test_schedules_are_listed_by_name_in_pages(bench: Bench) -> None:
    for name in ("c", "a", "b"):
        await bench.put(name, input={"large": True})

    first = (await bench.http.get("/v1/schedules", params={"limit": 2})).json()
    assert ([each["name"] for each in first["schedules"]], first["next_page"]) == (["a", "b"], "b")
    assert "input" not in first["schedules"][0]
    second = (await bench.http.get("/v1/schedules", params={"limit": 2, "page": "b"})).json()
    assert ([each["name"] for each in second["schedules"]], second["next_page"]) == (["c"], None)


async def test_schedules_come_as_msgpack_where_that_is_asked_for(bench: Bench) -> None:
    headers = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
    body = codec.pack({"workflow": "echo", "input": b"\x00", "run_at": datetime.fromisoformat("2026-06-01T13:00:00Z")})

    response = await bench.http.put("/v1/schedules/job", content=body, headers=headers)

    assert response.status_code == 201, response.content
    assert codec.unpack(response.content)["input"] == b"\x00"


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        ({"cron": "61 * * * *"}, ["cron"], "bad minute"),
        ({"cron": "* * * *"}, ["cron"], "it has 4 fields instead of five"),
        ({"cron": "0 0 30 2 *"}, ["cron"], "bad day-of-month"),
        ({"cron": "@hourly", "time_zone": "Mars/Base"}, ["time_zone"], "there is no time zone 'Mars/Base'"),
        ({}, [], "give one of cron, every_ms and run_at, not none"),
        ({"cron": "@hourly", "every_ms": 1000}, [], "not cron and every_ms"),
        ({"every_ms": 1000, "time_zone": "Europe/Berlin"}, [], "a time_zone goes with cron only"),
        ({"every_ms": 999}, ["every_ms"], "greater than or equal to 1000"),
        ({"cron": "@hourly", "overlap": "never"}, ["overlap"], "'allow', 'skip' or 'cancel'"),
        ({"cron": "@hourly", "catch_up": "none"}, ["catch_up"], "'latest' or 'all'"),
        ({"cron": "@hourly", "misfire_grace_ms": 1}, ["misfire_grace_ms"], "greater than or equal to 10000"),
        ({"cron": "@hourly", "start_at": 2, "end_at": 1}, [], "start_at is after end_at"),
        ({"cron": "@hourly", "croon": 1}, ["croon"], "Extra inputs are not permitted"),
    ],
)
async def test_what_is_no_schedule_is_422_and_says_why(
    bench: Bench, body: dict[str, Any], where: list[str], said: str
) -> None:
    response = await bench.http.put("/v1/schedules/job", json={"workflow": "echo"} | body)

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    (error,) = response.json()["errors"]
    assert error["loc"] == ["body", *where]
    assert said in error["msg"]


@pytest.mark.parametrize("body", [{"run_at": 1}, {"cron": "@hourly", "end_at": 1}])
async def test_what_would_never_fire_is_422(bench: Bench, body: dict[str, Any]) -> None:
    response = await bench.http.put("/v1/schedules/job", json={"workflow": "echo"} | body)

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert "would never fire" in response.json()["detail"]


async def test_a_workflow_that_there_is_not_is_404_and_an_input_that_does_not_fit_422(bench: Bench) -> None:
    unknown = await bench.http.put("/v1/schedules/job", json={"workflow": "nobody", "cron": "@hourly"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_workflow")
    wrong = await bench.http.put("/v1/schedules/job", json={"workflow": "count", "input": {}, "cron": "@hourly"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_input")
    assert (await bench.http.get("/v1/schedules")).json()["schedules"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/trigger")],
)
async def test_a_schedule_that_there_is_not_is_404(bench: Bench, method: str, path: str) -> None:
    response = await bench.http.request(method, f"/v1/schedules/nobody{path}")
    assert (response.status_code, response.json()["code"]) == (404, "schedule_not_found")
    response = await bench.http.request(method, f"/v1/schedules/a:b{path}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_id")


async def test_the_clock_is_the_server_s(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        services = app.state.services
        assert abs(await services.clock.now_ms() / 1000 - (await services.broker.redis.time())[0]) < 5
