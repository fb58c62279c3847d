import asyncio
from dataclasses import dataclass, field

import pytest

from tailplane.broker import Queue
from tailplane.control_plane.depths import FRESH, LONGEST_WAIT, SHORTEST_WAIT, Depth, Depths
from tailplane.control_plane.queue import TaskQueue
from tailplane.protocol.errors import StoreUnavailable

LIMIT = 100


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Asked:
    """What is asked of the queue: counted, held back until `held` is set, and then answered."""

    depth_now: int = 7
    times: int = 0
    held: asyncio.Event | None = None
    fails: list[Exception] = field(default_factory=list)

    async def depth(self, workflow: str) -> int:
        assert workflow == "a"
        self.times += 1
        if self.held:
            await self.held.wait()
        if self.fails:
            raise self.fails.pop()
        return self.depth_now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def depths(asked: Asked, clock: Clock) -> Depths:
    return Depths(asked, clock)  # type: ignore[arg-type]  # it asks nothing else


def position_in(depth: Depth) -> int:
    with depth.joining() as position:
        return position


async def test_redis_is_asked_when_nothing_was_heard_for_a_while(depths: Depths, asked: Asked, clock: Clock) -> None:
    assert position_in(await depths.of("default", "a", LIMIT)) == 7
    asked.depth_now = 3
    clock.now += FRESH / 2
    assert (position_in(await depths.of("default", "a", LIMIT)), asked.times) == (7, 1)
    clock.now += FRESH
    assert (position_in(await depths.of("default", "a", LIMIT)), asked.times) == (3, 2)


async def test_a_busy_control_plane_asks_nothing(depths: Depths, asked: Asked, clock: Clock) -> None:
    for tasks in range(7, 500):
        depth = await depths.of("default", "a", LIMIT)
        with depth.joining() as position:
            assert position == tasks
            depth.tell(tasks + 1)
        clock.now += FRESH / 2
    assert asked.times == 1


async def test_tasks_on_their_way_from_here_are_counted(depths: Depths) -> None:
    depth = await depths.of("default", "a", LIMIT)
    with depth.joining() as first, depth.joining() as second:
        assert (first, second) == (7, 8)
        # The first one is in, the second not yet.
        depth.tell(8)
        assert position_in(depth) == 10
    with pytest.raises(RuntimeError), depth.joining():
        raise RuntimeError("not taken")
    assert position_in(depth) == 8


async def test_all_who_ask_at_once_share_one_question(depths: Depths, asked: Asked) -> None:
    asked.held = asyncio.Event()
    asking = [asyncio.ensure_future(depths.of("default", "a", LIMIT)) for _ in range(50)]
    await asyncio.sleep(0)
    asked.held.set()
    found = await asyncio.wait_for(asyncio.gather(*asking), 10)
    assert asked.times == 1
    assert {position_in(depth) for depth in found} == {7}


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
async def test_who_shares_a_question_is_not_held_up_when_it_fails(depths: Depths, asked: Asked, ending: str) -> None:
    asked.held = asyncio.Event()
    first, second = (asyncio.ensure_future(depths.of("default", "a", LIMIT)) for _ in range(2))
    await asyncio.sleep(0)
    if ending == "cancelled":
        first.cancel()
    else:
        asked.fails.append(StoreUnavailable("away"))
        asked.held.set()
    assert position_in(await asyncio.wait_for(second, 10)) == 0
    (failure,) = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(failure, asyncio.CancelledError if ending == "cancelled" else StoreUnavailable)
    asked.held.set()
    # What is not known is asked by the next one.
    assert position_in(await asyncio.wait_for(depths.of("default", "a", LIMIT), 10)) == 7


async def test_a_refused_caller_is_asked_to_stay_away_as_long_as_the_queue_was_full(
    depths: Depths, clock: Clock
) -> None:
    depth = await depths.of("default", "a", LIMIT)
    bounds = {0: (SHORTEST_WAIT, 2 * SHORTEST_WAIT), 5: (5, 10), 15: (15, LONGEST_WAIT), 60: (15, LONGEST_WAIT)}
    begun = clock.now
    for full_for, (least, most) in bounds.items():
        clock.now = begun + full_for
        depth.tell(LIMIT)
        waits = {depth.wait_when_full() for _ in range(50)}
        assert least <= min(waits) < max(waits) <= most
    # A crowd is spread.
    assert len(waits) > 10


@pytest.mark.parametrize("quiet", [0, 3 * LONGEST_WAIT])
async def test_another_time_begins_anew(depths: Depths, clock: Clock, quiet: float) -> None:
    depth = await depths.of("default", "a", LIMIT)
    depth.wait_when_full()
    clock.now += LONGEST_WAIT
    depth.wait_when_full()
    if quiet:
        clock.now += quiet
    else:
        depth.tell(LIMIT // 2)
    assert depth.wait_when_full() <= 2 * SHORTEST_WAIT


async def test_a_limit_that_was_changed_holds_at_once(depths: Depths) -> None:
    assert (await depths.of("default", "a", LIMIT)).limit == LIMIT
    assert (await depths.of("default", "a", 3)).limit == 3


async def test_no_more_queues_are_known_than_a_few(depths: Depths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailplane.control_plane.depths.MOST", 3)
    monkeypatch.setattr(Asked, "depth", lambda _, queue: asyncio.sleep(0, len(queue)))
    first = await depths.of("t0", "a", LIMIT)
    for n in range(1, 4):
        await depths.of("t0", "a", LIMIT)
        await depths.of(f"t{n}", "a", LIMIT)
    assert await depths.of("t0", "a", LIMIT) is first
    assert len(depths._depths) == 3


async def test_the_depth_is_the_tenants_own_queue_s(queue: TaskQueue) -> None:
    tasks: Queue = queue.tasks
    await queue.zadd(tasks.keys.due("a"), {"default/t_1": 1, "default/t_2": 2})
    await queue.zadd(tasks.keys.due("acme/a"), {"acme/t_1": 1})
    assert position_in(await Depths(tasks).of("acme", "a", LIMIT)) == 1
    assert position_in(await Depths(tasks).of("default", "a", LIMIT)) == 2
