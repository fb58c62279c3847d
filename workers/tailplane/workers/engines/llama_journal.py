"""What is remembered of a run of llama-index-workflows from one attempt of its task to the next. No I/O.

The engine's own journal does the work: each tick that its reducer has taken is a record, and `BasicRuntime.restore`
makes the run's state of them again. One entry of the task's memory holds the ticks that came since the one before, and
what the engine leaves to others:

    t  the ticks, as `BasicRuntime.journal` encodes them      q  the number of the first one
    s  the state of `ctx.store`, whole, in the first entry    p  in later ones what has changed in it, as a JSON Patch
    m  the number of the last message whose event is in it
    r  the number of a message that is not for the workflow, of which the stream was told; such an entry has no ticks
    w  what `ctx.wait_for_event` waits for: `[event, due, requirements]` by step and waiter; None: it does no more
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workflows import Context, Workflow
from workflows.context.state_store import apply_state_patch
from workflows.plugins.basic import BasicRuntime, JournalRecord
from workflows.runtime.types.results import AddWaiter
from workflows.runtime.types.ticks import TickStepResult

from tailplane.protocol import codec
from tailplane.protocol.errors import Unserialisable


class Wait(NamedTuple):
    """A wait of a step for an event.

    Attributes:
        event: the name of the event's class.
        due: when it times out, in seconds since the epoch; None: never.
        requirements: what the event's fields must be.
    """

    event: str
    due: float | None
    requirements: dict[str, Any]


#: A waiting step and the id of its waiter.
Waiter = tuple[str, str]


@dataclass(slots=True)
class Past:
    """What earlier attempts have done.

    Attributes:
        records: the engine's journal.
        state: of `ctx.store`, as the engine encodes it; None: there was none yet.
        message: the number of the last message that became a tick; 0: none did.
        refused: the numbers of the messages that were told not to be for the workflow.
        waits: the steps that wait for an event.
    """

    records: list[JournalRecord] = field(default_factory=list)
    state: dict[str, Any] | None = None
    message: int = 0
    refused: set[int] = field(default_factory=set)
    waits: dict[Waiter, Wait] = field(default_factory=dict)

    @classmethod
    def read(cls, entries: Iterable[bytes]) -> "Past":
        """Return what the entries of a task's memory say, in their order."""
        past = cls()
        for raw in entries:
            entry = codec.unpack(raw)
            past.records += [JournalRecord(seq, tick) for seq, tick in enumerate(entry["t"], entry["q"])]
            if "s" in entry:
                past.state = json.loads(entry["s"])
            elif "p" in entry and past.state is not None:
                past.state = apply_state_patch(past.state, json.loads(entry["p"]))
            past.message = entry.get("m", past.message)
            if "r" in entry:
                past.refused.add(entry["r"])
            for step, waiter, wait in entry.get("w", ()):
                past.waits.pop((step, waiter), None)
                if wait is not None:
                    past.waits[step, waiter] = Wait(*wait)
        return past

    def restore(self, runtime: BasicRuntime, workflow: Workflow) -> "Context[Any]":
        """Return the context in which the run goes on.

        Raises:
            Exception: the engine can't make sense of the journal: the workflow's code is another one.
        """
        restored = runtime.restore(workflow, None, self.records, workflow.runtime.get_serializer(workflow))
        snapshot = restored.to_dict(include_state=False)
        snapshot["state"] = self.state or {}
        return Context.from_dict(workflow, snapshot)


def pack_entry(
    ticks: Sequence[JournalRecord], message: int | None, waits: Mapping[Waiter, Wait | None], state: Mapping[str, str]
) -> bytes:
    """Return an entry.

    Args:
        message: None: no tick is a message's.
        waits: those that are new; None for those that are over.
        state: `s` or `p`, or nothing where nothing has changed.
    """
    entry: dict[str, Any] = {"q": ticks[0].seq, "t": [tick.data for tick in ticks], **state}
    if message is not None:
        entry["m"] = message
    if waits:
        entry["w"] = [[step, waiter, wait] for (step, waiter), wait in waits.items()]
    return codec.pack(entry)


def pack_refusal(message: int) -> bytes:
    """Return the entry for a message that is not for the workflow.

    Not by `m`: the event of a message before it may be on its way to a tick, and would be lost with the attempt.
    """
    return codec.pack({"q": 0, "t": [], "r": message})


def with_requirements(record: JournalRecord, tick: TickStepResult) -> JournalRecord:
    """Return the record of a tick with what its step's waits require, which the engine leaves out.

    Replayed without, an event would end other waits than those that it did.

    Raises:
        Unserialisable: they are no JSON.
    """
    data = json.loads(record.data)
    for result, packed in zip(tick.result, data["value"]["result"], strict=True):
        if isinstance(result, AddWaiter):
            packed["requirements"] = _kept(result.requirements)
    return JournalRecord(record.seq, json.dumps(data))


def _kept(requirements: dict[str, Any]) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(json.dumps(requirements))
    except (TypeError, ValueError):
        kept = {}
    if kept != requirements:
        raise Unserialisable(
            f"what `ctx.wait_for_event` requires can't be kept: {requirements!r:.500}",
            hint="`requirements` must be str, numbers, bools, None, lists and dicts of them",
        )
    return kept


class StateDiary:
    """Notes what changes in the state of `ctx.store`, between two JSON forms of the whole.

    The engine's own `StateCheckpoint.diff` takes for unchanged what is still the same object, and so misses
    `items = await ctx.store.get("items"); items.append(1); await ctx.store.set("items", items)`.
    """

    def __init__(self, state: dict[str, Any] | None) -> None:
        self._text: str | None = None if state is None else json.dumps(state)

    def note(self, state: dict[str, Any]) -> dict[str, str]:
        """Return what an entry says of the state as it is now."""
        text, before = json.dumps(state), self._text
        if text == before:
            return {}
        self._text = text
        if before is None:
            return {"s": text}
        return {"p": json.dumps(list(_changes("", json.loads(before), json.loads(text))))}


def _changes(path: str, old: Any, new: Any) -> Iterable[dict[str, Any]]:
    """Yield the operations of a JSON Patch that make `new` of `old`."""
    if type(old) is not type(new):
        yield {"op": "replace", "path": path, "value": new}
    elif isinstance(new, dict):
        for key in old.keys() - new.keys():
            yield {"op": "remove", "path": f"{path}/{_escape(key)}"}
        for key, value in new.items():
            if key in old:
                yield from _changes(f"{path}/{_escape(key)}", old[key], value)
            else:
                yield {"op": "add", "path": f"{path}/{_escape(key)}", "value": value}
    elif old != new:
        if isinstance(new, list) and old and new[: len(old)] == old:
            # A list that grows, such as a chat's history, costs what is new in it.
            for index, value in enumerate(new[len(old) :], len(old)):
                yield {"op": "add", "path": f"{path}/{index}", "value": value}
        else:
            yield {"op": "replace", "path": path, "value": new}


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
