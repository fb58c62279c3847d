"""What a workflow logs is in its stream, in its place, and costs the workflow nothing but the call."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from tailplane.protocol import codec
from tailplane.workers import Context
from tailplane.workers.log_events import MAX_TEXT, LogEvents, collecting, install
from tailplane.workers.workflow import Workflow

from .conftest import Bench, Outlet

log = logging.getLogger("shop.orders")


@pytest.fixture(autouse=True)
def installed() -> Iterator[logging.Handler]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    install(logging.DEBUG)
    (handler,) = [each for each in root.handlers if each not in before]
    yield handler
    root.handlers[:] = before
    root.setLevel(level)


async def told(bench: Bench, workflow: Workflow, value: object = None) -> list[Any]:
    """Run a task and return what its stream says: a workflow's data, a log's level and message, else the type."""
    task = await bench.submit(workflow, value)
    await bench.run(workflow)
    said: list[Any] = []
    for event in await bench.events(task):
        if event.type == "task.log":
            said.append((event.data["level"], event.data["message"]))
        else:
            said.append(event.type if event.kind == "platform" else event.data)
    return said


async def test_records_and_events_keep_their_order(bench: Bench) -> None:
    async def flow(ctx: Context) -> None:
        for number in range(3):
            log.info("before %d", number)
            ctx.write_event_to_stream(number)
            await asyncio.sleep(0)
        log.debug("too quiet")
        log.error("after")

    said = await told(bench, bench.workflow(flow, log_events="info"))

    assert said[2:-1] == [
        ("info", "before 0"), 0, ("info", "before 1"), 1, ("info", "before 2"), 2, ("error", "after")
    ]  # fmt: skip


async def test_threads_and_generators_log_into_their_own_task_s_stream(bench: Bench) -> None:
    def in_a_thread(ctx: Context) -> None:
        log.info("sync")

    def generator(ctx: Context) -> Iterator[int]:
        log.info("generator")
        yield 1

    async def yields(ctx: Context) -> AsyncIterator[int]:
        await asyncio.to_thread(log.info, "to a thread")
        yield 1
        await asyncio.create_task(asyncio.to_thread(log.info, "to a task's thread"))

    assert (await told(bench, bench.workflow(in_a_thread, log_events="INFO")))[2:-1] == [("info", "sync")]
    assert (await told(bench, bench.workflow(generator, log_events="INFO")))[2:-1] == [("info", "generator"), 1]
    assert (await told(bench, bench.workflow(yields, log_events="INFO")))[2:-1] == [
        ("info", "to a thread"), 1, ("info", "to a task's thread")
    ]  # fmt: skip


async def test_tasks_that_run_together_keep_their_logs_apart(bench: Bench) -> None:
    both = asyncio.Barrier(2)

    async def flow(ctx: Context, name: str) -> None:
        await both.wait()
        log.info("it is %s", name)
        await both.wait()

    workflow = bench.workflow(flow, log_events="INFO")
    tasks = [await bench.submit(workflow, name) for name in ("ada", "bob")]
    await asyncio.gather(*[(await bench.attempt(workflow)).run() for _ in tasks])

    for task, name in zip(tasks, ("ada", "bob"), strict=True):
        logged = [event.data["message"] for event in await bench.events(task) if event.type == "task.log"]
        assert logged == [f"it is {name}"]


async def test_a_workflow_that_does_not_ask_has_none(bench: Bench) -> None:
    async def flow(ctx: Context) -> None:
        log.critical("loud")

    assert (await told(bench, bench.workflow(flow)))[2:] == ["task.succeeded"]


async def test_after_the_attempt_s_end_a_record_is_dropped_in_silence(bench: Bench) -> None:
    let_go, logged = threading.Event(), threading.Event()

    async def flow(ctx: Context) -> None:
        def late() -> None:
            let_go.wait(20)
            log.info("late")
            logged.set()

        asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, late)

    said = await told(bench, bench.workflow(flow, log_events="INFO"))
    let_go.set()
    assert await asyncio.to_thread(logged.wait, 20)
    assert said[2:] == ["task.succeeded"]


def logged(outlet: Outlet, work: Any, *, most: int = 1000, level: int = logging.INFO, **limits: int) -> list[Any]:
    """Return the data of the events that some work logs, taken at its end."""
    emitter = outlet.emitter(**limits)
    events = LogEvents(emitter, level, most)
    with collecting(events):
        work()
    events.close()
    append = emitter.take()
    return [event[1] for event in codec.unpack(append.payload)] if append else []


def test_what_stands_beside_a_message_is_left_out(outlet: Outlet) -> None:
    def work() -> None:
        log.info("paid", extra={"card": "hunter2"})
        # As structlog hands it to `logging`, under the configuration of a worker.
        log.info({"event": "paid", "card": "hunter2"})

    fact = {"level": "info", "logger": "shop.orders", "message": "paid"}
    assert logged(outlet, work) == [fact, fact]


def test_our_own_loggers_are_left_out(outlet: Outlet) -> None:
    def work() -> None:
        logging.getLogger("tailplane.workers").error("ours")
        logging.getLogger("tailplane").error("ours")
        logging.getLogger("tailplane_shop").error("theirs")

    assert [event["message"] for event in logged(outlet, work)] == ["theirs"]


def test_an_exception_is_told_with_its_traceback(outlet: Outlet) -> None:
    def work() -> None:
        try:
            raise LookupError("nothing there")
        except LookupError:
            log.exception("no order")

    (event,) = logged(outlet, work)
    assert (event["level"], event["message"]) == ("error", "no order")
    assert event["exception"].endswith("LookupError: nothing there")


def test_long_texts_are_cut_with_a_mark(outlet: Outlet) -> None:
    events = logged(outlet, lambda: log.info("x" * (MAX_TEXT + 1)), event=100_000, emit=100_000, task=200_000)
    whole = logged(outlet, lambda: log.info("x" * MAX_TEXT), event=100_000, emit=100_000, task=200_000)

    assert [(len(event["message"]), event.get("is_cut")) for event in events + whole] == [
        (MAX_TEXT, True),
        (MAX_TEXT, None),
    ]


def test_what_is_over_the_bound_is_dropped_and_told_at_the_end(outlet: Outlet) -> None:
    with structlog.testing.capture_logs() as said:
        *some, last = logged(outlet, lambda: [log.info("%d", n) for n in range(5)], most=3)

    assert [event["message"] for event in some] == ["0", "1", "2"]
    assert (last["level"], last["logger"], last["dropped"]) == ("warning", "tailplane", 2)
    assert last["message"] == "2 records of the log are not in this stream"
    assert [(line["event"], line["dropped"]) for line in said] == [("records of the log are not in the stream", 2)]


def test_where_there_is_no_room_records_give_way_to_events(outlet: Outlet) -> None:
    emitter = outlet.emitter(event=1000, emit=1000, task=2000)
    events = LogEvents(emitter, logging.INFO, 1000)
    with collecting(events):
        for _ in range(100):
            log.info("much ado")
        # The half of the buffer that is left is the events'.
        for _ in range(9):
            emitter.write("x" * 90)
        kept = emitter.take()
        assert kept is not None
        emitter.taken()
        while rest := emitter.take():
            emitter.taken()
        log.info("room again")
    rest = emitter.take()
    assert rest is not None
    (event,) = [item[1] for item in codec.unpack(rest.payload)]
    taken = [item for item in codec.unpack(kept.payload) if len(item) == 3]
    assert 0 < len(taken) < 100
    assert (event["message"], event["dropped"]) == ("room again", 100 - len(taken))


def test_a_record_that_can_t_be_put_into_words_is_counted_and_never_raises(
    outlet: Outlet, monkeypatch: pytest.MonkeyPatch, installed: logging.Handler
) -> None:
    # What the log's own handlers do with it is not the question.
    monkeypatch.setattr(logging.getLogger(), "handlers", [installed])

    def work() -> None:
        log.info("%d", "no number")
        log.info("fine")
        log.info("lone \udc80")

    assert [(event["message"], event.get("dropped")) for event in logged(outlet, work)] == [
        ("fine", 1), ("lone ?", None)
    ]  # fmt: skip


def test_a_message_that_logs_itself_does_not_hang(
    outlet: Outlet, monkeypatch: pytest.MonkeyPatch, installed: logging.Handler
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [installed])

    class Talkative:
        def __str__(self) -> str:
            log.info("inner")
            return "outer"

    events = logged(outlet, lambda: log.info("%s", Talkative()))
    assert [event["message"] for event in events] == ["inner", "outer"]


@pytest.mark.parametrize("level", ["LOUD", "", 5, True])
def test_a_level_that_is_none_is_refused(level: Any) -> None:
    async def flow(ctx: Context) -> None: ...

    from tailplane.workers import workflow

    with pytest.raises(ValueError, match="log_events must be a level of logging, such as 'INFO', not"):
        workflow(log_events=level)(flow)
