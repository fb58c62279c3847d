"""Streams the tokens of any OpenAI-compatible chat endpoint to whoever follows the task.

    export OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_MODEL=gpt-4o-mini OPENAI_API_KEY=...
    tailplane dev examples/chat_tokens/workflow.py

The endpoint's address, model and key come from the worker's environment. Clients never see the key: it is no part of
the input, of an event or of an error. An endpoint on your own machine takes any word for a key.
"""

import json
import os
from dataclasses import dataclass, field
from typing import Any

import httpx2
from events import Token

from tailplane.workers import Context, workflow

# Seconds: a model may think for a while before its first token, and between two.
TIMEOUT = httpx2.Timeout(10, read=120)


class ChatError(Exception):
    """The chat can't be held; the message says why, and may be shown to anybody."""


@dataclass(frozen=True)
class Endpoint:
    url: str
    model: str
    key: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> "Endpoint":
        names = ("OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY")
        url, model, key = values = [os.environ.get(name, "").strip() for name in names]
        if missing := [name for name, value in zip(names, values, strict=True) if not value]:
            raise ChatError(f"the worker's environment lacks {', '.join(missing)}")
        # The HTTP library would quote such a key in its error.
        if not (key.isascii() and key.isprintable()):
            raise ChatError("OPENAI_API_KEY holds characters that no HTTP header can carry")
        return cls(url.rstrip("/") + "/chat/completions", model, key)

    def masked(self, text: str) -> str:
        """Some endpoints quote the key when they refuse it."""
        return text.replace(self.key, "***")[:1000]


@workflow
async def chat(ctx: Context, prompt: str, system: str = "Answer briefly.") -> dict[str, str]:
    """Ask a language model, and stream its answer."""
    endpoint = Endpoint.from_environment()
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    request = {"model": endpoint.model, "messages": messages, "stream": True}
    try:
        async with (
            httpx2.AsyncClient(timeout=TIMEOUT, headers={"Authorization": f"Bearer {endpoint.key}"}) as http,
            http.stream("POST", endpoint.url, json=request) as response,
        ):
            if response.is_error:
                body = (await response.aread()).decode(errors="replace")
                raise ChatError(endpoint.masked(f"the endpoint answered {response.status_code}: {body}"))
            return await stream_tokens(ctx, endpoint, response)
    # `from None`: the traceback travels to the client, and should tell of this failure only.
    except (httpx2.TransportError, httpx2.InvalidURL, httpx2.SSEError) as error:
        raise ChatError(endpoint.masked(f"no answer from the endpoint: {type(error).__name__}: {error}")) from None


async def stream_tokens(ctx: Context, endpoint: Endpoint, response: httpx2.Response) -> dict[str, str]:
    texts, finish_reason = [], None
    async for message in httpx2.EventSource(response):
        if message.data == "[DONE]":
            break
        choice = first_choice(endpoint, message.data)
        if text := (choice.get("delta") or {}).get("content"):
            ctx.write_event_to_stream(Token(text=text), channel="tokens")
            texts.append(text)
        finish_reason = choice.get("finish_reason") or finish_reason
    # An answer that breaks off must not pass for a whole one.
    if finish_reason is None:
        raise ChatError("the endpoint's answer broke off")
    return {"text": "".join(texts), "finish_reason": finish_reason}


def first_choice(endpoint: Endpoint, data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
        if error := chunk.get("error"):
            raise ChatError(endpoint.masked(f"the endpoint reports: {error}"))
        # The last chunk may tell of usage only.
        return chunk["choices"][0] if chunk["choices"] else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ChatError(endpoint.masked(f"the endpoint sent something else than a chat chunk: {data}")) from None
