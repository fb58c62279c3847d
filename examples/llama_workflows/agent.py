"""An agent: a model that calls tools until it can answer. Typed start and stop; the model is made up."""

from typing import Any

from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Message(BaseModel):
    role: str
    content: str


class Task(StartEvent):
    question: str


class Turn(Event):
    history: list[Message]


class ToolCall(Event):
    tool: str
    arguments: dict[str, Any]


class ToolResult(Event):
    tool: str
    result: Any


class Final(StopEvent):
    answer: str
    history: list[Message]


TOOLS = {"add": lambda a, b: a + b, "multiply": lambda a, b: a * b}


def model(history: list[Message]) -> ToolCall | str:
    """Say what a language model might: 2 + 3, then that times 7, then the answer."""
    results = [message.content for message in history if message.role == "tool"]
    if not results:
        return ToolCall(tool="add", arguments={"a": 2, "b": 3})
    if len(results) == 1:
        return ToolCall(tool="multiply", arguments={"a": int(results[-1]), "b": 7})
    return f"It is {results[-1]}."


class AgentFlow(Workflow):
    """Answer a question with the help of tools."""

    @step
    async def begin(self, ctx: Context, ev: Task) -> Turn:
        history = [Message(role="user", content=ev.question)]
        await ctx.store.set("history", history)
        return Turn(history=history)

    @step
    async def think(self, ctx: Context, ev: Turn) -> ToolCall | Final:
        said = model(ev.history)
        if isinstance(said, ToolCall):
            ctx.write_event_to_stream(said)
            return said
        return Final(answer=said, history=ev.history)

    @step
    async def act(self, ctx: Context, ev: ToolCall) -> Turn:
        result = TOOLS[ev.tool](**ev.arguments)
        ctx.write_event_to_stream(ToolResult(tool=ev.tool, result=result))
        history = await ctx.store.get("history")
        history.append(Message(role="tool", content=str(result)))
        await ctx.store.set("history", history)
        return Turn(history=history)


agent = AgentFlow()
