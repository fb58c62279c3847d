"""One look at the deployment serves all who ask, and old figures are not shown."""

import asyncio
from datetime import timedelta

import pytest

from tailplane.broker import Broker, TaskRef, WorkerRecord, WorkflowRecord
from tailplane.control_plane import survey as survey_module
from tailplane.control_plane.survey import Standing, Survey
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import new_task_id, new_worker_id


class Counted(Survey):
    """Counts its looks, and fails where it is told to."""

    looks = 0
    fails = False

    async def _look(self) -> Standing:
        self.looks += 1
        if self.fails:
            await asyncio.sleep(0)
            raise StoreUnavailable
        return await super()._look()


@pytest.fixture
def survey(broker: Broker) -> Counted:
    return Counted(broker)


async def test_all_who_ask_at_once_and_within_a_second_share_a_look(survey: Counted) -> None:
    found = await asyncio.gather(*(survey.standing() for _ in range(10)))
    assert all(each is found[0] for each in (*found, await survey.standing(), survey.latest))
    assert survey.looks == 1


async def test_a_failure_is_that_of_all_who_wait_and_the_next_one_looks_again(survey: Counted) -> None:
    survey.fails = True
    found = await asyncio.gather(*(survey.standing() for _ in range(10)), return_exceptions=True)
    assert [type(each) for each in found] == [StoreUnavailable] * 10
    assert (survey.looks, survey.latest) == (1, None)
    survey.fails = False
    assert (await survey.standing()).workers == []


async def test_who_goes_away_takes_the_look_from_nobody(survey: Counted) -> None:
    first, second = (asyncio.ensure_future(survey.standing()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).dead_letters == {"default": 0}
    assert survey.looks == 1


async def test_an_old_look_is_repeated_and_not_shown(survey: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    await survey.standing()
    monkeypatch.setattr(survey_module, "FRESH", 0.0)
    monkeypatch.setattr(survey_module, "STALE", 0.0)
    assert survey.latest is None
    await survey.standing()
    assert survey.looks == 2


async def test_what_waits_and_what_failed_is_counted_of_all_tenants(survey: Counted, broker: Broker) -> None:
    flow = WorkflowRecord("a", "1", "", {}, None, 1, None)
    worker = WorkerRecord(new_worker_id(), "host", 1, "1", ["a"], 1, 0)
    await broker.queue.register(worker, [flow], timedelta(minutes=1))
    for tenant, count in (("default", 1), ("acme", 2), ("blue", 3)):
        await broker.tenants.note(tenant)
        for _ in range(count):
            await broker.queue.enqueue(TaskRef(new_task_id(), tenant), "a")
            await broker.catalogue.note_dead(TaskRef(new_task_id(), tenant))
    # Of what nobody has registered nothing is told.
    await broker.queue.enqueue(TaskRef(new_task_id(), "acme"), "unknown")
    found = await survey.standing()
    assert {name: backlog.depth for name, backlog in found.backlogs.items()} == {"a": 6}
    assert found.dead_letters == {"acme": 2, "blue": 3, "default": 1}
