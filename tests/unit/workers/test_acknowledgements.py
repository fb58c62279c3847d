"""Tasks that end together are forgotten together, and a failure is told to each."""

import asyncio
from datetime import timedelta

import pytest

from tailplane.broker import Claim, TaskRef
from tailplane.protocol.errors import StoreUnavailable
from tailplane.protocol.ids import WorkerId, new_task_id, new_worker_id
from tailplane.workers.acknowledgements import Acknowledgements

from .conftest import PATIENCE


class Queue:
    """Notes what is acknowledged, when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[tuple[Claim, ...]] = []
        self.go_on = asyncio.Event()
        self.is_away = False

    async def acknowledge(self, worker: WorkerId, *claims: Claim) -> None:
        self.batches.append(claims)
        await self.go_on.wait()
        if self.is_away:
            raise StoreUnavailable


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def acknowledgements(queue: Queue) -> Acknowledgements:
    return Acknowledgements(queue, new_worker_id())  # type: ignore[arg-type]


def claims(count: int) -> list[Claim]:
    return [Claim(TaskRef(new_task_id()), "echo", timedelta()) for _ in range(count)]


async def test_those_of_one_turn_go_together(queue: Queue, acknowledgements: Acknowledgements) -> None:
    first, second = claims(3), claims(2)
    sending = [asyncio.ensure_future(acknowledgements.send(claim)) for claim in first]
    while not queue.batches:
        await asyncio.sleep(0)
    # The first are under way: these don't wait for them.
    sending += [asyncio.ensure_future(acknowledgements.send(claim)) for claim in second]
    while len(queue.batches) < 2:
        await asyncio.sleep(0)
    assert queue.batches == [tuple(first), tuple(second)]
    assert not any(each.done() for each in sending)
    queue.go_on.set()
    await asyncio.wait_for(asyncio.gather(*sending), PATIENCE)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_failure_is_told_to_each(queue: Queue, acknowledgements: Acknowledgements, count: int) -> None:
    queue.is_away = True
    queue.go_on.set()
    outcomes = await asyncio.gather(*map(acknowledgements.send, claims(count)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * count
    queue.is_away = False
    await acknowledgements.send(claims(1)[0])


@pytest.mark.parametrize("turns", [1, 3])
async def test_who_sends_for_others_and_is_cancelled_lets_them_try_for_themselves(
    queue: Queue, acknowledgements: Acknowledgements, turns: int
) -> None:
    sending = [asyncio.ensure_future(acknowledgements.send(claim)) for claim in claims(3)]
    for _ in range(turns):
        await asyncio.sleep(0)
    sending[0].cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*sending, return_exceptions=True), PATIENCE)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, StoreUnavailable, StoreUnavailable]
    queue.go_on.set()
    await asyncio.wait_for(acknowledgements.send(claims(1)[0]), PATIENCE)


async def test_who_comes_along_and_is_cancelled_stops_nobody(queue: Queue, acknowledgements: Acknowledgements) -> None:
    sending = [asyncio.ensure_future(acknowledgements.send(claim)) for claim in claims(3)]
    while not queue.batches:
        await asyncio.sleep(0)
    sending[1].cancel()
    queue.go_on.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*sending, return_exceptions=True), PATIENCE)
    assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None)]
