"""Two steps, and the tokens of a language model as they come. The model is made up: it repeats what it is told."""

import asyncio
from collections.abc import AsyncIterator

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class MadeUpModel:
    async def stream(self, prompt: str) -> AsyncIterator[str]:
        for word in f"You said: {prompt}. Very funny!".split():
            await asyncio.sleep(0)
            yield word


class Token(Event):
    text: str


class Joke(Event):
    joke: str


class JokeFlow(Workflow):
    """Tell a joke about a topic, and what is good about it."""

    model = MadeUpModel()

    @step
    async def tell(self, ctx: Context, ev: StartEvent) -> Joke:
        return Joke(joke=await self.speak(ctx, f"a joke about {ev.topic}"))

    @step
    async def explain(self, ctx: Context, ev: Joke) -> StopEvent:
        return StopEvent(result=await self.speak(ctx, f"why '{ev.joke}' is funny"))

    async def speak(self, ctx: Context, prompt: str) -> str:
        words = []
        async for word in self.model.stream(prompt):
            words.append(word)
            ctx.write_event_to_stream(Token(text=word))
        return " ".join(words)


joke = JokeFlow()
