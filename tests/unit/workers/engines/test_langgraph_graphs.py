"""Graphs of LangGraph: what they say, and where they go on after a death."""

import asyncio
import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from tailplane.protocol import codec
from tailplane.workers.engines import EngineUnfit
from tailplane.workers.engines.langgraph_graphs import serve
from tests.unit.workers.engines.pretend import PATIENCE, Said

#: How often nodes ran, outside of any run.
RAN: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@dataclass
class PretendContext:
    """The context of a task's attempts, which is its memory too."""

    dies_at: int | None = None
    points: int = 0
    task_id: str = "task"
    entries: list[bytes] = field(default_factory=list)
    inbox: list[Said] = field(default_factory=list)
    stream: list[tuple[str | None, Any]] = field(default_factory=list)
    sealed: int = 0
    ran_at_entries: list[Counter[str]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)

    @property
    def memory(self) -> "PretendContext":
        return self

    async def message(self, after: int) -> Said:
        if len(self.inbox) <= after:
            raise asyncio.CancelledError
        return self.inbox[after]

    async def emit(self, data: Any, channel: str | None = None) -> None:
        self._live()
        # As msgpack has it.
        self.stream.append((channel, codec.unpack(codec.pack(data))))

    async def append(self, entry: bytes) -> None:
        self._live()
        self.entries.append(entry)
        self.sealed = len(self.stream)
        self.ran_at_entries.append(RAN.copy())
        self._live()
        # Time enough for nodes that should not run yet.
        for _ in range(3):
            await asyncio.sleep(0)
        assert self.ran_at_entries[-1] == RAN

    async def refuse(self, message: Said, error: str, entry: bytes) -> None:
        self._live()
        self.entries.append(entry)
        self.refused.append((message.number, error))
        self._live()

    def _live(self) -> None:
        self.points += 1
        if self.points - 1 == self.dies_at:
            raise asyncio.CancelledError

    async def attempt(self, graph: Any, value: Any) -> Any:
        """Run the next attempt; return its result, or None where it died or waits."""
        del self.stream[self.sealed :]
        running = asyncio.ensure_future(serve(graph, "graph").function(self, value))
        await asyncio.wait({running}, timeout=PATIENCE)
        return None if running.cancelled() else running.result()

    async def run(self, graph: Any, value: Any) -> Any:
        result = None
        while result is None:
            result = await self.attempt(graph, value)
        return result


class Notes(TypedDict):
    notes: Annotated[list[str], operator.add]


def note(name: str) -> Any:
    async def node(state: Notes) -> dict[str, list[str]]:
        RAN[name] += 1
        get_stream_writer()({"node": name, "seen": len(state["notes"])})
        return {"notes": [name]}

    return node


def chain(*names: str) -> Any:
    graph = StateGraph(Notes)
    for name, node in zip(names, [ask if name == "ask" else note(name) for name in names], strict=True):
        graph.add_node(name, node)
    for before, after in zip((START, *names), (*names, END), strict=True):
        graph.add_edge(before, after)
    return graph


async def ask(state: Notes) -> dict[str, list[str]]:
    RAN["ask"] += 1
    return {"notes": [interrupt("go on?")]}


async def test_what_nodes_write_are_events_and_the_last_state_is_the_result() -> None:
    context = PretendContext()
    assert await context.attempt(chain("a", "b").compile(), {"notes": ["x"]}) == {"notes": ["x", "a", "b"]}
    assert context.stream == [("custom", {"node": "a", "seen": 1}), ("custom", {"node": "b", "seen": 2})]


async def test_the_messages_of_a_model_are_typed_events() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("hello you")]))

    async def speak(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("speak", speak)
    graph.add_edge(START, "speak")
    context = PretendContext()
    result = await context.attempt(graph.compile(), {"messages": [{"role": "user", "content": "hi"}]})

    assert [(channel, data["content"]) for channel, data in context.stream] == [
        ("messages", "hello"),
        ("messages", " "),
        ("messages", "you"),
    ]
    assert [message.content for message in result["messages"]] == ["hi", "hello you"]
    # As the result of a task is packed.
    codec.pack(result)


async def test_nodes_that_have_finished_do_not_run_again_wherever_the_worker_dies() -> None:
    graph = chain("a", "b", "c").compile()
    undisturbed = PretendContext()
    expected = await undisturbed.run(graph, {"notes": []})

    for point in range(undisturbed.points):
        RAN.clear()
        context = PretendContext(dies_at=point)
        assert await context.run(graph, {"notes": []}) == expected
        assert context.stream == undisturbed.stream
        assert sum(RAN.values()) <= 4


@pytest.mark.parametrize("checkpointer", [None, InMemorySaver()], ids=["none", "in memory"])
async def test_an_interrupt_is_an_event_and_a_message_goes_on(checkpointer: Any) -> None:
    graph = chain("a", "ask", "b").compile(checkpointer=checkpointer)
    context = PretendContext()
    assert await context.attempt(graph, {"notes": []}) is None
    ((first, _), (second, asked)) = context.stream
    assert (first, second, asked["value"]) == ("custom", "interrupt", "go on?")

    context.inbox.append(Said(1, None, "yes"))
    assert await context.attempt(graph, {"notes": []}) == {"notes": ["a", "yes", "b"]}
    assert (len(context.stream), RAN["a"], RAN["ask"]) == (3, 1, 2)


async def test_an_answer_counts_once_wherever_the_worker_dies() -> None:
    graph = chain("ask", "b").compile()
    for point in range(10):
        context = PretendContext(dies_at=point)
        context.inbox += [Said(1, None, "one"), Said(2, None, "two")]
        assert await context.run(graph, {"notes": []}) == {"notes": ["one", "b"]}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "null is no answer"),
        ({}, "an empty dict answers no interrupt"),
        ({"0" * 32: "yes"}, f"no interrupt {'0' * 32} waits for an answer"),
        ({5: "yes"}, "the keys of an answer must be str"),
    ],
    ids=["null", "empty", "unknown", "keys"],
)
async def test_what_answers_no_interrupt_is_told_and_the_graph_waits_on(answer: Any, said: str) -> None:
    graph = chain("ask", "b").compile()
    undisturbed = PretendContext(inbox=[Said(1, None, answer), Said(2, None, "yes")])
    assert await undisturbed.run(graph, {"notes": []}) == {"notes": ["yes", "b"]}
    assert undisturbed.refused == [(1, said)]
    # The question once: nothing runs again for what is no answer.
    assert [channel for channel, _ in undisturbed.stream] == ["interrupt", "custom"]
    for point in range(undisturbed.points):
        context = PretendContext(dies_at=point, inbox=undisturbed.inbox)
        assert await context.run(graph, {"notes": []}) == {"notes": ["yes", "b"]}
        assert [channel for channel, _ in context.stream] == ["interrupt", "custom"]
        assert context.refused == undisturbed.refused


@pytest.mark.parametrize("answer", ["yes", False, 0, "", [], {"a": 1}], ids=repr)
async def test_whatever_else_is_sent_is_the_answer(answer: Any) -> None:
    context = PretendContext(inbox=[Said(1, None, answer)])
    assert await context.run(chain("ask", "b").compile(), {"notes": []}) == {"notes": [answer, "b"]}


async def test_of_several_interrupts_each_answer_says_which_it_is_for() -> None:
    graph = StateGraph(Notes)
    for name in ("p", "q"):
        graph.add_node(name, ask)
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    compiled, context = graph.compile(), PretendContext()
    assert await context.attempt(compiled, {"notes": []}) is None
    p, q = [data["id"] for channel, data in context.stream if channel == "interrupt"]
    context.inbox += [Said(1, None, "for whom?"), Said(2, None, {q: "to q"}), Said(3, None, {q: "to q again"})]
    assert await context.attempt(compiled, {"notes": []}) is None
    context.inbox += [Said(4, None, "to p")]
    assert sorted((await context.attempt(compiled, {"notes": []}))["notes"]) == ["to p", "to q"]
    assert context.refused == [
        (1, "2 interrupts wait: send {id: answer}"),
        (3, f"no interrupt {q} waits for an answer"),
    ]
    assert p != q


def test_a_graph_with_a_checkpointer_of_its_own_is_refused() -> None:
    class Own(BaseCheckpointSaver[int]):
        pass

    with pytest.raises(EngineUnfit, match="has a checkpointer of its own"):
        serve(chain("a").compile(checkpointer=Own()), "graph")
