"""What readers see of a task that needed more than one attempt."""

from typing import Any

import pytest

from tailplane.client import Client, Rewind, StreamGap, TaskFailed
from tailplane.protocol.events import PlatformType

pytestmark = pytest.mark.anyio

ERROR = {"code": "workflow_error", "type": "builtins.ValueError", "message": "no"}


def two_attempts(wire: Any) -> list[bytes]:
    """Seq 2 to 9: two events, a failure, a second attempt with two events, a third with one."""
    return [
        wire.keep_alive,
        wire.entry(3, "a", "b"),
        wire.platform(4, PlatformType.REWIND, {"to": 0, "reason": "failed"}),
        wire.entry(6, "A", 7, fence=2),
        wire.platform(7, PlatformType.REWIND, {"to": 0, "reason": "worker_lost"}),
        wire.entry(9, "x", "y", fence=3),
        wire.succeeded(10),
    ]


async def test_all_that_was_written_is_kept_unless_one_asks_for_less(server: Any, wire: Any) -> None:
    server.play(wire.streams(*two_attempts(wire)))
    async with Client(server.url) as client:
        stream = client.get_task_result_stream("t_1", start=1)
        assert await wire.collect(stream) == ["a", "b", "A", 7, "x", "y"]


async def test_who_asks_is_told_where_something_is_superseded(server: Any, wire: Any) -> None:
    server.play(wire.streams(*two_attempts(wire)))
    async with Client(server.url) as client:
        seen = await wire.collect(client.get_task_result_stream("t_1", start=1, on_rewind="notice"))
    first, second = (item for item in seen if isinstance(item, Rewind))
    assert seen == ["a", "b", first, "A", 7, second, "x", "y"]
    assert (first.seq, first.to, first.reason) == (4, 0, "failed")
    assert second.reason == "worker_lost"


async def test_what_was_superseded_before_can_be_left_out(server: Any, wire: Any) -> None:
    task = wire.task | {"superseded": [[1, 6]]}
    server.play(wire.answers(task), wire.streams(*two_attempts(wire)))
    async with Client(server.url) as client:
        assert await wire.collect(client.get_task_result_stream("t_1", start=1, on_rewind="drop")) == ["x", "y"]


async def test_a_view_takes_back_what_a_rewind_supersedes(server: Any, wire: Any) -> None:
    server.play(*[wire.streams(wire.platform(1, PlatformType.QUEUED, {}), *two_attempts(wire))] * 3)
    async with Client(server.url) as client:
        task = client.task("t_1")
        assert await task.collect() == ["x", "y"]
        assert await task.text() == "xy"
        snapshots = await wire.collect(task.snapshots(0))
    assert snapshots[-1] == ["x", "y"]
    assert all(shown in (["a", "b"], [], ["A", 7], ["x", "y"]) for shown in snapshots)


async def test_a_view_ends_as_its_task_did(server: Any, wire: Any) -> None:
    server.play(
        wire.streams(
            wire.platform(1, PlatformType.QUEUED, {}),
            wire.entry(2, "a"),
            wire.platform(3, PlatformType.FAILED, {"error": ERROR}),
        )
    )
    shown = []
    async with Client(server.url) as client:
        with pytest.raises(TaskFailed, match="no"):
            async for each in client.task("t_1").snapshots(0):
                shown.append(each)
    assert shown == [["a"]]


def cut(wire: Any, *more: bytes) -> Any:
    """Events 1 to 4 are gone; what follows is the end of the first attempt."""
    return wire.streams(wire.platform(4, PlatformType.GAP, {"from": 1, "to": 4}), wire.entry(6, "e", "f"), *more)


async def test_a_view_of_a_stream_that_was_cut_says_so(server: Any, wire: Any) -> None:
    server.play(*[cut(wire, wire.succeeded(7))] * 3)
    async with Client(server.url) as client:
        task = client.task("t_1")
        with pytest.raises(StreamGap, match="events 1 to 4"):
            await task.collect()
        with pytest.raises(StreamGap):
            await task.text()
        view = task.snapshots(0)
        with pytest.raises(StreamGap):
            await wire.collect(view)
        # Who asks on gets what there is.
        assert (await wire.collect(view))[-1] == ["e", "f"]


async def test_what_is_gone_and_superseded_is_not_missed(server: Any, wire: Any) -> None:
    rewind = wire.platform(7, PlatformType.REWIND, {"to": 0, "reason": "failed"})
    server.play(cut(wire, rewind, wire.entry(9, "x", "y", fence=2), wire.succeeded(10)))
    async with Client(server.url) as client:
        assert await client.task("t_1").text() == "xy"


async def test_another_way_to_take_a_rewind_is_refused() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="keep, notice, drop"):
            client.get_task_result_stream("t_1", on_rewind="forget")  # type: ignore[arg-type]


async def test_a_rewind_may_take_back_what_lies_between(server: Any, wire: Any) -> None:
    entries = [
        wire.platform(1, PlatformType.QUEUED, {}),
        wire.entry(6, "a", "b", "c", "d", "e"),
        wire.platform(7, PlatformType.REWIND, {"to": 5, "reason": "worker_lost", "also": [[3, 3], [4, 4]]}),
        wire.entry(9, "C", "D", fence=2),
        wire.succeeded(10),
    ]
    server.play(wire.streams(*entries), wire.streams(*entries))
    async with Client(server.url) as client:
        seen = await wire.collect(client.get_task_result_stream("t_1", on_rewind="notice"))
        assert await client.task("t_1").collect() == ["a", "d", "C", "D"]
    (rewind,) = (item for item in seen if isinstance(item, Rewind))
    assert (rewind.to, rewind.also) == (5, ((3, 3), (4, 4)))
    assert [rewind.supersedes(seq, seq) for seq in range(2, 7)] == [False, True, True, False, True]
    assert not rewind.supersedes(3, 5)
