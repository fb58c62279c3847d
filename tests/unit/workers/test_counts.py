"""What a worker counts is what happened."""

from datetime import timedelta

import pytest

from tailplane.broker import Append, TaskRef
from tailplane.protocol.errors import BufferFull
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.ids import EntryId, new_task_id
from tailplane.protocol.states import Trigger
from tailplane.workers.counts import Counts, Written
from tailplane.workers.emitter import Emitter, Hooks, Limits

from .conftest import Outlet, begun


def append(*data: object) -> Append:
    return Append(TaskRef(new_task_id()), EntryId(1, 1 + len(data)), join_events([pack_event(item) for item in data]))


def test_a_refused_write_is_counted(outlet: Outlet) -> None:
    counts = Counts()
    hooks = Hooks(outlet.rings.append, outlet.lose, full=counts.note_full)
    emitter = Emitter(begun(), Limits(event=100, entry=100, task=100, emit=100), hooks)
    emitter.write("x" * 50)
    with pytest.raises(BufferFull):
        emitter.write("x" * 50)
    assert (counts.full, emitter.unsent_bytes > 50) == (1, True)


def test_a_flush_is_counted_by_events_and_bytes_and_an_entry_by_its_lag() -> None:
    written, appends = Written(), [append("a", "b", "c"), append("d")]
    written.note_flush(appends, 0.25)
    size = sum(len(each.payload) for each in appends)
    assert (written.entries, written.events, written.bytes) == (2, 4, size)
    assert written.flush_events.cumulated()[1] == 4
    assert written.flush_bytes.cumulated()[1] == size
    assert written.flush_seconds.cumulated()[1] == 0.25
    assert written.lag.count == 1
    assert 0 <= written.lag.cumulated()[1] < 60


def test_what_runs_here_is_there_before_it_moves() -> None:
    counts = Counts(["flow"])
    assert counts.claims == {("flow",): 0}
    assert counts.outcomes["flow", "lost"] == 0
    assert counts.waits["flow",].count == 0


def test_attempts_are_counted_by_their_outcome() -> None:
    counts = Counts(["flow"])
    counts.note_claim("flow", timedelta(seconds=2))
    counts.note_begun("flow", 1)
    counts.note_ended("flow", Trigger.RETRY, 1.5)
    counts.note_begun("flow", 2)
    counts.note_ended("flow", None, 0.5)
    assert (counts.claims["flow",], counts.rewinds["flow",]) == (1, 1)
    assert (counts.outcomes["flow", "retried"], counts.outcomes["flow", "lost"]) == (1, 1)
    assert counts.durations["flow",].cumulated()[1] == 2.0
    assert counts.waits["flow",].cumulated()[1] == 2.0
