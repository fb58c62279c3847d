"""Compiled graphs of LangGraph, unmodified: a graph's input is the task's, its last state the result.

What nodes give to their stream writer are events on the channel `custom`; the messages of models, whole or in chunks,
are events on the channel `messages`, typed by their classes; an `interrupt()` is one on the channel `interrupt`, and
the next message that the task gets is what it returns. A graph that has finished a step goes on behind it in another
attempt.
"""

import contextlib
import hashlib
import importlib.metadata
import re
from typing import Any

import structlog
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tailplane.workers.context import Context
from tailplane.workers.engines.errors import EngineUnfit
from tailplane.workers.engines.langgraph_saver import TaskSaver
from tailplane.workers.engines.names import name_of
from tailplane.workers.workflow import Options, Workflow

log = structlog.get_logger("tailplane.workers")

_NEEDED = "langgraph>=1.2,<1.3"
# How the library makes an interrupt's id, and tells one.
_ID = re.compile("[0-9a-f]{32}")


def serve(graph: Any, name: str | None) -> Workflow:
    """Return the workflow that runs a compiled graph.

    Args:
        name: by which its module knows it; None: by none, it has that which it was compiled with.
    Raises:
        EngineUnfit: another version of the library is installed, or the graph has a checkpointer of its own.
    """
    version = importlib.metadata.version("langgraph")
    if [int(part) for part in re.findall(r"\d+", version)[:2]] != [1, 2]:
        raise EngineUnfit(f"langgraph {version} is installed, and {_NEEDED} is needed", hint=f"pip install '{_NEEDED}'")
    if not (graph.checkpointer is None or isinstance(graph.checkpointer, InMemorySaver)):
        raise EngineUnfit(
            f"the graph {graph.get_name()} has a checkpointer of its own",
            hint="compile it without one, or with an InMemorySaver, in whose place comes what the task remembers",
        )

    async def run(ctx: Context, value: Any = None) -> Any:
        return await _Run(graph, ctx).result(value)

    run.__name__ = run.__qualname__ = name_of(name, graph.get_name())
    return Workflow(run, Options(version=_digest(graph)))


def _digest(graph: Any) -> str:
    """Return what tells a graph from one with other nodes or channels."""
    return hashlib.sha256(repr([sorted(graph.nodes), sorted(graph.channels)]).encode()).hexdigest()[:12]


class _Run:
    """One attempt's part of a run of a graph."""

    def __init__(self, graph: Any, context: Context) -> None:
        self._context = context
        self._memory = context.memory
        self._saver = TaskSaver(self._memory.entries)
        self._message = self._saver.message
        self._graph = graph.copy({"checkpointer": self._saver})
        self._config = {"configurable": {"thread_id": context.task_id}}

    async def result(self, value: Any) -> Any:
        """Run to the end; return the graph's last state."""
        if self._message or self._saver.storage:
            # Nothing new: what has been done stands.
            value = None
        else:
            await self._stream(value)
        while (state := await self._graph.aget_state(self._config)).next:
            if state.interrupts:
                value = Command(resume=await self._answer({each.id for each in state.interrupts}))
            await self._stream(value)
            value = None
        return state.values

    async def _answer(self, pending: set[str]) -> Any:
        """Return what the next message answers that the graph can take; of others it is told that they are not taken.

        Args:
            pending: the ids of the interrupts that wait.
        """
        while True:
            message = await self._memory.message(self._message)
            self._message = message.number
            error = misfit(message.data, pending)
            if error is None:
                return message.data
            log.warning("a message answers no interrupt", message=message.number, reason=error)
            await self._memory.refuse(message, error, self._saver.taken(self._message))

    async def _stream(self, value: Any) -> None:
        chunks = self._graph.astream(
            value, self._config, stream_mode=["custom", "messages", "values"], durability="sync"
        )
        async with contextlib.aclosing(chunks):
            async for mode, chunk in chunks:
                match mode:
                    case "custom":
                        await self._context.emit(chunk, channel="custom")
                    case "messages":
                        await self._context.emit(chunk[0], channel="messages")
                    case "values":
                        for interrupt in chunk.get("__interrupt__", ()) if isinstance(chunk, dict) else ():
                            await self._context.emit(
                                {"id": interrupt.id, "value": interrupt.value}, channel="interrupt"
                            )
                        if self._saver.has_steps:
                            # All that the step's nodes have said is written, and the next ones have not begun: the
                            # graph goes on when it is asked for the next chunk.
                            await self._memory.append(self._saver.taken(self._message))
        if self._saver.has_news:
            # Where it has stopped at an interrupt: which one, and what other nodes of its step have written.
            await self._memory.append(self._saver.taken(self._message))


def misfit(answer: Any, pending: set[str]) -> str | None:
    """Return why the library could do nothing with an answer but fail, or ask again; None: it can go on.

    Args:
        pending: the ids of the interrupts that wait.
    """
    if answer is None:
        return "null is no answer"
    if isinstance(answer, dict):
        if not all(isinstance(key, str) for key in answer):
            return "the keys of an answer must be str"
        # To the library one of such keys only is a map from ids to answers, and so is an empty one.
        if all(_ID.fullmatch(key) for key in answer):
            if unknown := sorted(answer.keys() - pending):
                return f"no interrupt {unknown[0]} waits for an answer"
            return None if answer else "an empty dict answers no interrupt"
    if len(pending) > 1:
        return f"{len(pending)} interrupts wait: send {{id: answer}}"
    return None
