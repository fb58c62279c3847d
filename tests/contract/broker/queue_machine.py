"""The queue's tasks and workers: each step is one call by somebody who may be wrong about how things stand."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from tailplane.broker import TaskRef, Terms
from tailplane.broker.claims import IN_TURN
from tailplane.protocol.ids import SessionId, TaskId, WorkerId
from tailplane.protocol.priorities import Priority

from .machine import WORKERS, Machine, Refused, answer, step, workers
from .model import RANKS, Holder, Kept, QueueModel, SessionModel

T = TypeVar("T")

WORKFLOWS = ["chat", "echo"]
# The queue asks nobody whether there is such a task.
WORKFLOW_OF = {TaskRef(TaskId(f"t_{number:026}")): WORKFLOWS[number % 2] for number in range(6)}
# A task keeps its terms, but not its key's limit: the newest counts.
_TERMS = [
    Terms(), Terms(Priority.HIGH, "k"), Terms(Priority.NORMAL, "k"), Terms(Priority.LOW, "k"), Terms(Priority.LOW),
    Terms(Priority.NORMAL, "j"),
]  # fmt: skip
TERMS_OF = dict(zip(WORKFLOW_OF, _TERMS, strict=True))
BOUNDS = {"chat": 2}
MISSING = SessionId("s_missing")
_MS = timedelta(milliseconds=1)

tasks = st.sampled_from(list(WORKFLOW_OF))
# The long one does not pass by itself: a step lets it.
delays = st.sampled_from([timedelta(), timedelta(), timedelta(hours=1)])
rooms = st.fixed_dictionaries({workflow: st.integers(0, 3) for workflow in WORKFLOWS})


class QueueMachine(Machine):
    """What may happen in the queue, and how it must be after each step."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.queue = QueueModel(
            due={(workflow, rank): {} for workflow in WORKFLOWS for rank in RANKS},
            held={worker: {} for worker in WORKERS},
            tokens=dict.fromkeys(WORKFLOWS, 0),
        )

    @initialize()
    def open(self) -> None:
        self.sessions = [self.run(self.calls.open_session()) for _ in range(2)]
        self.queue.sessions = {session: SessionModel() for session in self.sessions}
        for worker in WORKERS[:2]:
            self.register(worker)

    def give(self, call: Coroutine[Any, Any, T], promised: Callable[[], T], delay: timedelta) -> None:
        """Do what gives tasks to the queue: they are due after `delay`, as the server's clock says to the ms."""
        before = self.run(self.calls.now())
        self.agree(call, promised)
        after = self.run(self.calls.now())
        for line, due in self.queue.due.items():
            seen = self.run(self.calls.due(line))
            for task in [task for task in due if not due[task]]:
                assert before <= seen[task] - delay / _MS <= after
                due[task] = seen[task]
        for entry in [entry for entry in self.queue.blocked if not entry.due]:
            task = TaskRef.from_member(entry.member.encode())
            since = self.run(self.calls.kept())[task].due
            assert since is not None
            assert before <= since <= after
            self.queue.blocked.discard(entry)
            self.queue.blocked.add(entry._replace(due=since))
            self.queue.kept[task] = self.queue.kept[task]._replace(due=since)

    @step(
        5,
        task=tasks,
        delay=delays,
        session=st.sampled_from([None, None, 0, 1, 2]),
        key=st.sampled_from([None, None, "key-1", "key-2"]),
        limit=st.integers(1, 2),
    )
    def enqueue(self, task: TaskRef, delay: timedelta, session: int | None, key: str | None, limit: int) -> None:
        wanted = None if session is None else [*self.sessions, MISSING][session]
        request = (key, f"makes {task.task_id}") if key else None
        terms = TERMS_OF[task]._replace(concurrency_limit=limit)
        kept = Kept(terms.priority.rank, None, None)
        if terms.concurrency_key:
            kept = kept._replace(key=f"default/{terms.concurrency_key}", limit=limit)
        self.give(
            self.calls.enqueue(task, WORKFLOW_OF[task], delay, wanted, request, terms),
            partial(self.queue.enqueue, task, WORKFLOW_OF[task], wanted, request, kept, bool(delay)),
            delay,
        )
        if key:
            assert self.run(self.calls.made_by(key)) == self.queue.requests.get(key)

    @step(6, worker=workers, free=st.integers(1, 4), room=rooms, before=st.integers(0, IN_TURN))
    def claim(self, worker: WorkerId, free: int, room: dict[str, int], before: int) -> None:
        now = self.run(self.calls.now())
        told = answer(lambda: self.run(self.calls.claim(worker, free, room, BOUNDS, before)))
        is_idle = self.queue.is_idle(now)
        promised = answer(lambda: self.queue.claim(worker, free, room, BOUNDS, before, now))
        if isinstance(told, Refused):
            assert told == promised
            return
        taken, next_due = told
        assert taken == promised
        if is_idle:
            self.assert_the_next_is_announced(now, next_due)

    def assert_the_next_is_announced(self, looked_at: int, next_due: timedelta | None) -> None:
        later = [due for tasks_due in self.queue.due.values() for due in tasks_due.values()]
        assert (next_due is None) == (not later)
        if next_due is not None:
            assert looked_at <= min(later) - next_due / _MS <= self.run(self.calls.now())

    @step(worker=workers, task=tasks)
    def acknowledge(self, worker: WorkerId, task: TaskRef) -> None:
        workflow = WORKFLOW_OF[task]
        has_terms = TERMS_OF[task] != Terms() or workflow in BOUNDS
        self.agree(
            self.calls.acknowledge(worker, task, workflow, has_terms), partial(self.queue.acknowledge, worker, task)
        )

    @step(2, worker=workers, task=tasks, delay=delays)
    def requeue(self, worker: WorkerId, task: TaskRef, delay: timedelta) -> None:
        self.give(
            self.calls.requeue(worker, task, WORKFLOW_OF[task], delay),
            partial(self.queue.requeue, worker, task),
            delay,
        )

    @step(worker=workers, task=tasks)
    def park(self, worker: WorkerId, task: TaskRef) -> None:
        self.agree(self.calls.park(worker, task, WORKFLOW_OF[task]), partial(self.queue.park, worker, task))

    @step(task=tasks)
    def unpark(self, task: TaskRef) -> None:
        self.give(self.calls.unpark(task, WORKFLOW_OF[task]), partial(self.queue.unpark, task), timedelta())

    @step(worker=st.none() | workers, task=tasks)
    def withdraw(self, worker: WorkerId | None, task: TaskRef) -> None:
        self.agree(
            self.calls.withdraw(task, WORKFLOW_OF[task], worker),
            partial(self.queue.withdraw, task, WORKFLOW_OF[task], worker),
        )

    @step()
    def admit(self) -> None:
        self.agree(self.calls.admit(), self.queue.admit)

    @step(task=tasks)
    def delay_passes(self, task: TaskRef) -> None:
        line = WORKFLOW_OF[task], TERMS_OF[task].priority.rank
        due = self.queue.due[line]
        if task in due:
            due[task] = min(due[task], self.run(self.calls.now()))
            self.run(self.calls.let_delay_pass(task, line, due[task]))

    @step(session=st.sampled_from([0, 1]))
    def close_session(self, session: int) -> None:
        self.run(self.calls.close_session(self.sessions[session]))
        self.queue.sessions[self.sessions[session]].is_closed = True

    @step(2, worker=workers)
    def register(self, worker: WorkerId) -> None:
        self.run(self.calls.register(worker, WORKFLOWS))
        self.queue.leases[worker] = True

    @step(worker=workers)
    def renew(self, worker: WorkerId) -> None:
        self.agree(self.calls.renew(worker), partial(self.queue.renew, worker))

    @step(worker=workers)
    def lease_lapses(self, worker: WorkerId) -> None:
        if worker in self.queue.leases:
            self.run(self.calls.let_lease_lapse(worker))
            self.queue.leases[worker] = False

    @step(2, worker=workers, leaves=st.booleans())
    def reap(self, worker: WorkerId, leaves: bool) -> None:
        self.give(self.calls.reap(worker, leaves), partial(self.queue.reap, worker, leaves), timedelta())

    @step(workflow=st.sampled_from(WORKFLOWS))
    def wake(self, workflow: str) -> None:
        if self.queue.tokens[workflow]:
            self.run(self.calls.wake(workflow))
            self.queue.tokens[workflow] -= 1

    @invariant()
    def the_queue_is_as_promised(self) -> None:
        now = self.run(self.calls.now())
        assert self.run(self.calls.look_at_queue(WORKERS, WORKFLOWS, self.sessions)) == self.queue.seen(now)

    @invariant()
    def a_task_is_in_one_place_of_the_queue(self) -> None:
        for task in WORKFLOW_OF:
            assert task in self.queue.doubled or self.queue.places(task) <= 1

    @invariant()
    def a_key_is_held_by_what_runs_and_by_nothing_else(self) -> None:
        queue = self.queue
        assert all(holder.task in queue.held[WorkerId(holder.worker)] for holder in queue.holders)
        assert {Holder(key, task, worker) for (worker, task), key in queue.keys.items()} == {
            holder for holder in queue.holders if not holder.key.startswith("/")
        }

    @invariant()
    def a_key_that_nobody_holds_lets_the_next_one_in(self) -> None:
        now = self.run(self.calls.now())
        for entry in self.queue.blocked:
            if not self.queue.doubled and not any(holder.key == entry.key for holder in self.queue.holders):
                ripe = [
                    task for rank in RANKS for task, due in self.queue.due[entry.workflow, rank].items() if due <= now
                ]
                assert [task for task in ripe if self.queue.kept[task].key == entry.key]
