"""A compiled graph of LangGraph: a model that speaks, a human who answers, and a node that reports as it goes.

    tailplane dev examples/langgraph_graph/assistant.py
    tailplane run assistant '{"topic": "Tea", "messages": [], "sections": []}' --follow

It waits for an answer: `tailplane send TASK '"A fine one"'` in another terminal gives it.
"""

from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt


class State(TypedDict):
    topic: str
    messages: Annotated[list[AnyMessage], add_messages]
    sections: list[str]


def made_up_model(text: str) -> GenericFakeChatModel:
    """Return a model that says this, word by word."""
    return GenericFakeChatModel(messages=iter([AIMessage(text)]))


async def draft(state: State) -> dict[str, Any]:
    model = made_up_model(f"{state['topic']} is a topic")
    return {"messages": [await model.ainvoke([HumanMessage(f"Write about {state['topic']}")])]}


async def review(state: State) -> dict[str, Any]:
    answer = interrupt({"draft": state["messages"][-1].content})
    return {"messages": [HumanMessage(answer)]}


async def publish(state: State) -> dict[str, Any]:
    write = get_stream_writer()
    sections = [message.content for message in state["messages"]]
    for number, section in enumerate(sections, 1):
        write({"published": number, "of": len(sections), "text": section})
    return {"sections": sections}


builder = StateGraph(State)
builder.add_node("draft", draft)
builder.add_node("review", review)
builder.add_node("publish", publish)
builder.add_edge(START, "draft")
builder.add_edge("draft", "review")
builder.add_edge("review", "publish")
builder.add_edge("publish", END)

assistant = builder.compile()
