"""The checks of a chaos run notice each way in which a promise can be broken, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from tailplane.protocol.events import Event
from tailplane.protocol.states import State
from tests.chaos.checks import violations
from tests.chaos.history import Outcome, Run, TaskHistory

from .made_up import SCRIPT, TASK, beginning, history, numbered, said, succeeded, two_attempts, written


def _rules(broken: TaskHistory) -> set[str]:
    return {violation.rule for violation in violations(broken)}


def _failed(attempt: int, code: str) -> Event:
    return said("task.failed", attempt, {"error": {"code": code, "type": "", "message": "", "traceback": None}})


QUEUED = said("task.queued", 0)
ONE_ATTEMPT = [QUEUED, *beginning(1), *written(1), succeeded(1)]


@pytest.mark.parametrize(
    "good",
    [
        history(),
        history(ONE_ATTEMPT),
        history([QUEUED, said("task.cancelled", 0, {"reason": None})], cancel_after=1.0),
        history([QUEUED, *beginning(1), *written(1, 2), said("task.cancelled", 1, {"reason": "x"})], cancel_after=1.0),
        history(ONE_ATTEMPT, cancel_after=1.0),
        history([QUEUED, *beginning(1), *written(1, 2), _failed(1, "worker_lost")], workflow="once"),
        history([QUEUED, *beginning(1), said("task.handed_back", 1), *beginning(2), *written(2), succeeded(2)]),
    ],
)
def test_a_history_as_it_should_be_breaks_nothing(good: TaskHistory) -> None:
    assert violations(good) == []


def test_attempts_that_are_meant_to_raise_break_nothing() -> None:
    script = SCRIPT.model_copy(update={"failures": 1})
    first = written(1, script.length(1), script=script)
    stream = [QUEUED, *beginning(1), *first, said("task.retrying", 1), *beginning(2), *written(2), succeeded(2)]
    assert violations(history(stream, workflow="fallible", script=script)) == []


@pytest.mark.parametrize("view", ["snapshots", "collect", "notice", "drop"])
def test_every_view_of_a_good_history_breaks_nothing(view: str) -> None:
    assert violations(history(view=view)) == []


def test_the_text_of_a_good_history_breaks_nothing() -> None:
    script = SCRIPT.model_copy(update={"as_text": True})
    stream = [QUEUED, *beginning(1), *written(1, script=script), succeeded(1)]
    good = history(stream, view="text", script=script)
    good.shown = ["".join(script.data(1))]
    assert violations(good) == []
    good.shown = ["".join(script.data(1)) * 2]
    assert _rules(good) == {"the text shows each thing once"}


def _without(position: int) -> list[Event]:
    stream = two_attempts()
    del stream[position]
    return stream


def test_a_lost_event_is_noticed() -> None:
    # The third of the second attempt; the others moved up, so that seq has no hole.
    broken = history(_without(10))
    assert "an attempt's events are a prefix of what it wrote" in _rules(broken)


def test_a_lost_last_event_of_an_attempt_that_succeeded_is_noticed() -> None:
    assert _rules(history(_without(-2))) == {"an attempt that ended by itself lost nothing"}


def test_a_doubled_event_is_noticed() -> None:
    stream = two_attempts()
    stream.insert(10, stream[10])
    assert _rules(history(stream)) == {"an attempt's events are a prefix of what it wrote"}


def test_swapped_events_are_noticed() -> None:
    stream = two_attempts()
    stream[9], stream[10] = stream[10], stream[9]
    assert _rules(history(stream)) == {"an attempt's events are a prefix of what it wrote"}


def test_a_hole_in_the_numbers_is_noticed() -> None:
    broken = history()
    broken.again = [replace(event, seq=event.seq + (event.seq > 4)) for event in broken.again]
    assert "seq counts from 1 without a hole" in _rules(broken)


def test_two_ends_are_noticed() -> None:
    assert "one terminal event" in _rules(history([*two_attempts(), succeeded(2)]))


def test_an_event_after_the_end_is_noticed() -> None:
    broken = history()
    broken.again = numbered([*broken.again, written(2)[0]])
    assert "nothing follows the terminal event" in _rules(broken)
    assert "events stand in their attempt, and attempts in a row" in _rules(broken)


def test_a_stream_without_an_end_is_noticed() -> None:
    broken = history()
    del broken.again[-1]
    assert {"one terminal event", "nothing follows the terminal event"} <= _rules(broken)


def test_a_zombie_s_event_is_noticed() -> None:
    stream = two_attempts()
    stream.insert(10, written(1, 4, first=3)[0])
    assert "events stand in their attempt, and attempts in a row" in _rules(history(stream))


def test_a_zombie_s_event_under_the_new_attempt_s_name_is_noticed() -> None:
    stream = two_attempts()
    stream[10] = replace(written(1, 4, first=3)[0], attempt=2)
    assert "an attempt's events are a prefix of what it wrote" in _rules(history(stream))


def test_an_event_between_two_attempts_is_noticed() -> None:
    stream = two_attempts()
    stream.insert(6, written(1, 4, first=3)[0])
    assert "events stand in their attempt, and attempts in a row" in _rules(history(stream))


@pytest.mark.parametrize("missing", [5, 6, 7], ids=["worker_lost", "rewind", "started"])
def test_an_attempt_that_does_not_begin_properly_is_noticed(missing: int) -> None:
    assert "events stand in their attempt, and attempts in a row" in _rules(history(_without(missing)))


def test_a_rewind_that_takes_back_too_little_is_noticed() -> None:
    stream = two_attempts()
    stream[6] = said("task.rewind", 2, {"to": 4, "reason": "worker_lost"})
    assert "rewinds leave the last attempt alone" in _rules(history(stream))


def test_a_reader_that_missed_an_event_is_noticed() -> None:
    broken = history()
    del broken.live[4]
    assert _rules(broken) == {"a reader sees live what the stream holds"}


def test_a_reader_that_saw_an_event_twice_is_noticed() -> None:
    broken = history()
    broken.live.insert(4, broken.live[4])
    assert _rules(broken) == {"a reader sees live what the stream holds"}


@pytest.mark.parametrize("view", ["snapshots", "collect", "notice"])
def test_a_view_that_shows_superseded_events_is_noticed(view: str) -> None:
    broken = history(view=view)
    broken.shown = [*SCRIPT.data(1)[:3], *SCRIPT.data(2)]
    assert _rules(broken) == {f"the view ({view}) shows each thing once"}


def test_a_stream_that_drops_may_have_shown_what_was_superseded_later_but_nothing_twice() -> None:
    opened_early = history(view="drop")
    opened_early.shown = [*SCRIPT.data(1)[:3], *SCRIPT.data(2)]
    assert violations(opened_early) == []
    opened_early.shown = [*SCRIPT.data(2)[:1], *SCRIPT.data(2)]
    assert _rules(opened_early) == {"nothing is shown twice"}
    opened_early.shown = SCRIPT.data(2)[:-1]
    assert _rules(opened_early) == {"the last attempt is shown whole"}


def test_superseded_events_that_are_not_dropped_are_noticed() -> None:
    broken = history()
    broken.kept = [*SCRIPT.data(1)[:3], *SCRIPT.data(2)]
    assert _rules(broken) == {"what rewinds drop is not shown"}


def _change_record(broken: TaskHistory, **fields: Any) -> None:
    assert broken.record is not None
    broken.record = broken.record.model_copy(update=fields)


def test_another_result_in_the_record_is_noticed() -> None:
    broken = history()
    _change_record(broken, result={"attempt": 1})
    assert "the result is the same everywhere" in _rules(broken)


def test_the_result_of_another_attempt_is_noticed() -> None:
    stream = two_attempts()
    stream[-1] = said("task.succeeded", 2, {"result": SCRIPT.result(1)})
    assert _rules(history(stream)) == {"the result is the same everywhere"}


def test_another_state_in_the_record_is_noticed() -> None:
    broken = history()
    _change_record(broken, state=State.FAILED)
    assert "the record has the state of the terminal event" in _rules(broken)


def test_a_record_that_counts_other_attempts_is_noticed() -> None:
    broken = history()
    _change_record(broken, attempt=3)
    assert _rules(broken) == {"the record counts the attempts"}


@pytest.mark.parametrize("superseded", [[], [(1, 4)], [(1, 10)]])
def test_a_record_that_supersedes_something_else_is_noticed(superseded: list[tuple[int, int]]) -> None:
    broken = history()
    _change_record(broken, superseded=superseded)
    assert _rules(broken) == {"the record says what is superseded"}


def test_a_client_that_is_told_another_end_is_noticed() -> None:
    broken = history()
    broken.outcome = Outcome(State.FAILED, "worker_lost")
    assert _rules(broken) == {"the client is told the end"}


def test_an_end_that_nobody_asked_for_is_noticed() -> None:
    cancelled = [QUEUED, *beginning(1), said("task.cancelled", 1, {"reason": None})]
    assert _rules(history(cancelled)) == {"a task ends as it may"}
    for code in ("worker_lost", "attempts_exhausted", "events_lost", "workflow_error"):
        assert _rules(history([QUEUED, *beginning(1), _failed(1, code)])) == {"a task ends as it may"}, code


def test_a_cancellation_that_tells_another_end_is_noticed() -> None:
    broken = history(ONE_ATTEMPT, cancel_after=1.0)
    broken.cancelled = State.CANCELLED
    assert _rules(broken) == {"a cancellation tells how the task ended"}


def test_an_attempt_that_fails_without_being_meant_to_is_noticed() -> None:
    stream = [QUEUED, *beginning(1), *written(1), said("task.retrying", 1, {"error": {}}), *beginning(2), *written(2)]
    assert _rules(history([*stream, succeeded(2)])) == {"only what is meant to raise fails"}


def test_an_attempt_that_ran_unseen_is_noticed() -> None:
    broken = history()
    broken.runs.append(Run(TASK, 3, 1, 0.0))
    assert _rules(broken) == {"no attempt runs unseen"}


def test_an_attempt_that_ran_twice_is_noticed() -> None:
    broken = history()
    broken.runs.append(Run(TASK, 2, 1, 0.0))
    assert _rules(broken) == {"an attempt is run by one worker"}


def test_a_second_run_of_what_may_run_once_is_noticed() -> None:
    assert _rules(history(workflow="once")) == {"what may not run again runs once"}


def test_a_task_that_did_not_end_in_time_is_noticed() -> None:
    broken = history()
    broken.troubles.append("it has not ended in time")
    assert _rules(broken) == {"it ends, and can be read"}
