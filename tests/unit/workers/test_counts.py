"""What a worker counts is what happened."""

from datetime import timedelta

import pytest

from tailplane.broker import Append, TaskRef
from tailplane.broker.tenant_labels import TenantLabels
from tailplane.protocol.errors import BufferFull
from tailplane.protocol.events import join_events, pack_event
from tailplane.protocol.ids import EntryId, new_task_id
from tailplane.protocol.states import Trigger
from tailplane.workers.counts import Counts, Written
from tailplane.workers.emitter import Emitter, Hooks, Limits

from .conftest import Outlet, begun


def append(*data: object, tenant: str = "default") -> Append:
    return Append(
        TaskRef(new_task_id(), tenant), EntryId(1, 1 + len(data)), join_events([pack_event(item) for item in data])
    )


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
    assert counts.claims == {("flow", "default"): 0}
    assert counts.outcomes["flow", "lost", "default"] == 0
    assert counts.waits["flow",].count == 0


def test_attempts_are_counted_by_their_outcome() -> None:
    counts = Counts(["flow"])
    counts.note_claim("flow", "acme", timedelta(seconds=2))
    counts.note_begun("flow", 1)
    counts.note_ended("flow", "acme", Trigger.RETRY, 1.5)
    counts.note_begun("flow", 2)
    counts.note_ended("flow", "acme", None, 0.5)
    assert (counts.claims["flow", "acme"], counts.rewinds["flow",]) == (1, 1)
    assert (counts.outcomes["flow", "retried", "acme"], counts.outcomes["flow", "lost", "acme"]) == (1, 1)
    assert counts.durations["flow",].cumulated()[1] == 2.0
    assert counts.waits["flow",].cumulated()[1] == 2.0


def test_what_is_written_is_counted_by_tenant_and_told_once() -> None:
    written = Written(TenantLabels(1))
    mine, theirs = append("a", "b", tenant="acme"), append("c", tenant="globex")
    written.note_flush([mine, mine, theirs, mine], 0.25)
    written.note_rest("globex", [b"12345"])
    written.note_stored("acme", 7)
    of = {name: len(each.payload) for name, each in (("acme", mine), ("globex", theirs))}
    # Beside the default tenant one is named.
    assert written.events_of == {("default",): 0, ("acme",): 6, ("other",): 2}
    assert written.bytes_of == {("default",): 0, ("acme",): 3 * of["acme"], ("other",): of["globex"] + 5}
    assert (written.events, written.bytes) == (8, 3 * of["acme"] + of["globex"] + 5)
    assert written.take_untold() == {"acme": 3 * of["acme"] + 7, "globex": of["globex"] + 5}
    assert written.take_untold() == {}


def test_what_goes_into_the_record_with_an_entry_is_stored_and_no_event() -> None:
    written, plain = Written(), append("a", tenant="acme")
    written.note_taken([plain._replace(fields=["step:1", b"1234"])])
    assert written.bytes == len(plain.payload)
    assert written.take_untold() == {"acme": len(plain.payload) + len("step:1") + 4}
