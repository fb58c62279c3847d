"""Records and streams: each step is one call by somebody who may be wrong about how things stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from tailplane.broker import TaskRef
from tailplane.protocol.ids import EntryId, TaskId, WorkerId
from tailplane.protocol.states import TRANSITIONS, State, Trigger

from .calls import LARGE, RETENTION, START_WITHIN, flat
from .machine import Machine, Refused, step, workers
from .model import Finish, Said, Seen, TaskModel

# Older ones are left alone.
MOST_TASKS = 3
# Longer than a slow machine takes between two looks; less than what the lengths of time differ by.
SLACK = timedelta(minutes=10)
GIVES_BACK = [Trigger.RETRY, Trigger.HAND_BACK, Trigger.WAIT]
ENDS = [Trigger.SUCCEED, Trigger.FAIL, Trigger.CANCEL]
ENDS_FROM_OUTSIDE = [Trigger.CANCEL, Trigger.EXPIRE, Trigger.FAIL]
# What is said last.
LAST_WORDS = {
    Trigger.SUCCEED: "task.succeeded",
    Trigger.FAIL: "task.failed",
    Trigger.CANCEL: "task.cancelled",
    Trigger.EXPIRE: "task.expired",
    Trigger.RETRY: "task.retrying",
    Trigger.HAND_BACK: "task.handed_back",
    Trigger.WAIT: "task.parked",
}
KEPT: dict[Trigger, dict[str, object]] = {
    Trigger.SUCCEED: {"result": "done"},
    Trigger.FAIL: {"error": {"code": "workflow_error", "type": "E", "message": "no"}},
}

# The latest more often: of the tasks, and of a task's attempts, where the others were fenced off.
tasks = st.sampled_from([0, 0, 0, 0, 1, 2])
attempts_back = st.sampled_from([0, 0, 0, 1, 1, 2])
workflows = st.sampled_from(["chat", "echo"])
listeners = st.sampled_from([f"listener-{number}" for number in range(6)])


@dataclass
class Writer:
    """An attempt as its worker sees it, which does not know when it has lost the task.

    Attributes:
        seq: where the stream ends, as it believes.
        entries: how many entries the stream has, as it believes.
        latest: its latest entry that was taken.
        finish: how it has ended; it writes nothing more.
    """

    worker: WorkerId
    attempt: int
    seq: int
    entries: int
    latest: tuple[TaskRef, EntryId, list[Said], int, WorkerId, Mapping[str, object]] | None = None
    finish: Finish | None = None


class TaskMachine(Machine):
    """What may happen to records and streams, and how they must be after each step."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.made: list[TaskModel] = []
        self.writers: dict[TaskModel, list[Writer]] = {}
        self.states: dict[TaskModel, State] = {}
        self.ids = self.words = 0

    def task(self, back: int) -> TaskModel:
        """Return a task, counted from the latest."""
        return self.made[max(-1 - back, -len(self.made))]

    def writer(self, task: TaskModel, back: int) -> Writer | None:
        """Return an attempt of the task, counted from the latest; None where there were not so many."""
        attempts = self.writers.get(task, [])
        return attempts[-1 - back] if back < len(attempts) else None

    def say(self, attempt: int, count: int) -> list[Said]:
        """Return what a workflow writes: events no two of which are alike."""
        self.words += count
        return [Said(attempt, None, number) for number in range(self.words - count, self.words)]

    @initialize(workflow=workflows, listener=st.none() | listeners)
    def create_first(self, workflow: str, listener: str | None) -> None:
        self.create(workflow, listener)

    @step(2, workflow=workflows, listener=st.none() | listeners)
    def create(self, workflow: str, listener: str | None) -> None:
        self.ids += 1
        task = TaskModel(TaskRef(TaskId(f"t_{self.ids:026}")), workflow, [listener] if listener else [])
        task.created_at = self.run(self.calls.create(task.ref, workflow, listener))
        self.made = [*self.made, task][-MOST_TASKS:]

    @step(of=tasks)
    def create_again(self, of: int) -> None:
        task = self.task(of)
        # An id is not used again once what it named is gone.
        if not task.is_gone:
            assert self.run(self.calls.create(task.ref, task.workflow, None)) == task.created_at

    @step(5, of=tasks, worker=workers)
    def begin(self, of: int, worker: WorkerId) -> None:
        self.begin_attempt(self.task(of), worker, takes_over=True)

    @step(of=tasks, worker=workers)
    def begin_what_may_not_run_twice(self, of: int, worker: WorkerId) -> None:
        self.begin_attempt(self.task(of), worker, takes_over=False)

    def begin_attempt(self, task: TaskModel, worker: WorkerId, takes_over: bool) -> None:
        begun = self.agree(self.calls.begin(task.ref, worker, takes_over), partial(task.begin, worker, takes_over))
        if not isinstance(begun, Refused):
            opening, entries, _ = begun
            self.writers.setdefault(task, []).append(Writer(worker, opening.fence, opening.seq, entries))

    @step(3, of=tasks, back=attempts_back, count=st.integers(1, 20), large=st.sampled_from([False, False, True]))
    def append(self, of: int, back: int, count: int, large: bool) -> None:
        self.append_to([self.task(of)], back, count, large)

    @step(3, of=tasks, back=attempts_back, count=st.integers(1, 5), skips=st.integers(0, 3))
    def append_what_stands(self, of: int, back: int, count: int, skips: int) -> None:
        self.append_to([self.task(of)], back, count, False, skips)

    @step(back=attempts_back, count=st.integers(1, 3))
    def append_to_all_at_once(self, back: int, count: int) -> None:
        self.append_to(self.made, back, count, False)

    def append_to(self, to: list[TaskModel], back: int, count: int, large: bool, skips: int | None = None) -> None:
        """Append; from then on all but the first `skips` of these events stand, None: none of them."""
        attempts = [(task, writer) for task in to if (writer := self.writer(task, back)) and not writer.finish]
        entries, stands = [], list[frozenset[int] | None]()
        for task, writer in attempts:
            said = [*self.say(writer.attempt, count), *[Said(writer.attempt, None, LARGE)] * large]
            entry = EntryId(writer.attempt, writer.seq + len(said))
            stand = None if skips is None else task.stand | set(range(writer.seq + 1 + skips, entry.seq + 1))
            stands.append(stand)
            kept = {} if stand is None else {"state:x": f"said {self.words}", "stand": flat(stand)}
            entries.append((task.ref, entry, said, writer.entries, writer.worker, kept))
        outcome = self.run(self.calls.append(entries))
        for (task, writer), sent, stand, refusal in zip(attempts, entries, stands, outcome, strict=True):
            _, entry, said, *_, kept = sent
            remembered = {} if stand is None else {"x": str(kept["state:x"])}
            assert refusal == task.append(writer.attempt, said, remembered, stand)
            if refusal is None:
                writer.seq, writer.entries, writer.latest = entry.seq, writer.entries + 1, sent
            else:
                assert not refusal.means_already_there(entry)
                assert refusal.means_fenced(entry)

    @step(of=tasks, back=attempts_back)
    def append_again(self, of: int, back: int) -> None:
        task = self.task(of)
        writer = self.writer(task, back)
        if writer and writer.latest:
            entry = writer.latest[1]
            (refusal,) = self.run(self.calls.append([writer.latest]))
            assert refusal == task.refusal
            is_fenced_off = task.is_gone or task.tail.fence != writer.attempt
            assert (refusal.means_already_there(entry), refusal.means_fenced(entry)) == (
                not is_fenced_off,
                is_fenced_off,
            )

    @step(4, of=tasks, back=attempts_back, trigger=st.sampled_from(GIVES_BACK), count=st.integers(0, 3))
    def give_back(self, of: int, back: int, trigger: Trigger, count: int) -> None:
        self.finish_attempt(self.task(of), back, trigger, count, 0)

    @step(of=tasks, back=attempts_back, trigger=st.sampled_from(ENDS), count=st.integers(0, 3))
    def finish(self, of: int, back: int, trigger: Trigger, count: int) -> None:
        self.finish_attempt(self.task(of), back, trigger, count, 0)

    @step(of=tasks, back=attempts_back, trigger=st.sampled_from(GIVES_BACK + ENDS), error=st.sampled_from([-1, 1, 5]))
    def finish_elsewhere(self, of: int, back: int, trigger: Trigger, error: int) -> None:
        self.finish_attempt(self.task(of), back, trigger, 1, error)

    def finish_attempt(self, task: TaskModel, back: int, trigger: Trigger, count: int, error: int) -> None:
        """End an attempt, which may be in error about where the stream ends."""
        writer = self.writer(task, back)
        if writer is None or writer.finish:
            return
        said = [*self.say(writer.attempt, count), Said(writer.attempt, LAST_WORDS[trigger], {"by": "its attempt"})]
        # What waits lets its last event stand, or all that there is.
        last = writer.seq + len(said)
        stand = task.stand | {last} if count else frozenset(range(1, last + 1))
        finish = Finish(
            trigger,
            writer.attempt,
            writer.seq + error,
            said,
            KEPT.get(trigger, {}),
            stand if trigger is Trigger.WAIT else None,
        )
        if not isinstance(self.agree(self.calls.finish(task.ref, finish), partial(task.finish, finish)), Refused):
            writer.finish = finish

    @step(2, of=tasks, back=attempts_back)
    def finish_again(self, of: int, back: int) -> None:
        task = self.task(of)
        writer = self.writer(task, back)
        if writer and writer.finish:
            self.agree(self.calls.finish(task.ref, writer.finish), partial(task.finish, writer.finish))

    @step(of=tasks, trigger=st.sampled_from(ENDS_FROM_OUTSIDE), back=attempts_back)
    def end(self, of: int, trigger: Trigger, back: int) -> None:
        task, kept = self.task(of), KEPT.get(trigger, {})
        latest = max(0, task.attempt - back)
        last = Said(latest, LAST_WORDS[trigger], {"reason": "from outside"})
        self.agree(
            self.calls.end(task.ref, trigger, latest, last, kept), partial(task.end, trigger, latest, last, kept)
        )

    @step(3, of=tasks, message=st.sampled_from(["yes", "no"]), key=st.sampled_from([None, "key-1", "key-2"]))
    def deliver(self, of: int, message: str, key: str | None) -> None:
        task = self.task(of)
        self.agree(self.calls.deliver(task.ref, message, key), partial(task.deliver, message, key))

    @step(4, of=tasks, listener=listeners)
    def wait_for(self, of: int, listener: str) -> None:
        task = self.task(of)
        self.agree(self.calls.wait_for(task.ref, listener), partial(task.wait_for, listener))

    @step(of=tasks)
    def start_deadline_passes(self, of: int) -> None:
        task = self.task(of)
        if not task.is_gone:
            self.run(self.calls.let_start_deadline_pass(task.ref))
            task.is_late = True

    @step(of=tasks)
    def retention_passes(self, of: int) -> None:
        task = self.task(of)
        if task.state.is_terminal:
            self.run(self.calls.let_retention_pass(task.ref))
            task.is_gone = True

    @step(2, of=tasks, after=st.integers(0, 40), page=st.integers(1, 5))
    def read(self, of: int, after: int, page: int) -> None:
        task = self.task(of)
        assert self.run(self.calls.read(task.ref, after, task.attempt, page)) == task.events[after:]

    @step(of=tasks, count=st.integers(1, 40))
    def read_the_newest(self, of: int, count: int) -> None:
        task = self.task(of)
        assert self.run(self.calls.newest(task.ref, count)) == max(0, len(task.events) - count)

    @invariant()
    def tasks_are_as_promised(self) -> None:
        looks = self.run(self.calls.look([task.ref for task in self.made]))
        for task, (seen, kept_for) in zip(self.made, looks, strict=True):
            assert seen == task.seen()
            if seen is not None:
                assert_sound(seen)
                assert_kept(seen, kept_for)
                before, self.states[task] = self.states.get(task, seen.state), seen.state
                assert before == seen.state or seen.state in {moves.get(before) for moves in TRANSITIONS.values()}

    @invariant()
    def readers_and_listeners_are_told(self) -> None:
        rung, told = self.run(self.calls.heard([task.ref for task in self.made]))
        promised: dict[str, list[str]] = {}
        for task in self.made:
            assert rung[task.ref] == task.rung
            for listener in task.told:
                promised.setdefault(listener, []).append(self.calls.broker.keys.task(task.ref))
            task.rung, task.told = [], []
        assert told == promised


def assert_sound(seen: Seen) -> None:
    """What is promised of each stream by itself, whatever the model says."""
    assert seen.ids == sorted(set(seen.ids))
    assert [entry.end for entry in seen.entries if entry.end] == [seen.state] * seen.state.is_terminal
    assert (seen.entries[-1].end is not None) == seen.state.is_terminal
    said = [(event.type, event.attempt) for entry in seen.entries for event in entry.events]
    assert [attempt for type_, attempt in said if type_ == "task.started"] == list(range(1, seen.attempt + 1))
    rewound = [attempt for type_, attempt in said if type_ == "task.rewind"]
    # One that waited may go on without.
    waited = sum(type_ == "task.parked" for type_, _ in said)
    assert rewound == sorted(set(rewound))
    assert max(0, seen.attempt - 1) - waited <= len(rewound) <= max(0, seen.attempt - 1)


def assert_kept(seen: Seen, left: list[timedelta | None]) -> None:
    """Record and stream stay while the task may run, and go some time after it ended, or if it never began."""
    if seen.attempt and not seen.has_ended:
        assert left == [None, None]
        return
    promised = RETENTION if seen.has_ended else START_WITHIN + RETENTION
    assert all(each is not None and promised - SLACK < each <= promised for each in left)
