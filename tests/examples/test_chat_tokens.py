"""Tokens from a chat endpoint to the client, live; and what the client learns when the endpoint fails: never the key.

The endpoint is a small one of these tests' own, on loopback. The prompt says what it shall do.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tailplane.client import SyncClient, SyncTask, TaskFailed
from tailplane.deploy.cluster import LocalCluster, Plan

KEY = "sk-this-must-never-be-seen"
DONE = "data: [DONE]\n\n"


def chunk(text: str | None = None, finish_reason: str | None = None) -> str:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


class ChatEndpoint:
    """An OpenAI-compatible endpoint. It tells a story as far as it is let; other prompts make it fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, Any]] = []
        self.go_on = threading.Event()
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        key = request.headers.get("authorization", "")
        self.asked.append((key, body))
        match body["messages"][-1]["content"]:
            case "refuse":
                return JSONResponse({"error": {"message": f"Incorrect API key provided: {key}"}}, 401)
            case "no stream":
                return JSONResponse({"choices": []})
            case "stop early":
                return self.stream(chunk("half "))
            case "hang up":
                return self.stream(chunk("half "), None)
            case "fail":
                return self.stream(chunk("half "), f"data: {json.dumps({'error': f'overloaded, {key}'})}\n\n")
            case "garbage":
                return self.stream(chunk("half "), f"data: <html>{key}\n\n")
            case _:
                usage = f"data: {json.dumps({'choices': [], 'usage': {'total_tokens': 3}})}\n\n"
                return self.stream(
                    chunk(""), chunk("Once"), "wait", chunk(" upon"), chunk(" a time"), chunk(None, "stop"), usage, DONE
                )

    def stream(self, *pieces: str | None) -> Response:
        return StreamingResponse(self.pieces(*pieces), media_type="text/event-stream")

    async def pieces(self, *pieces: str | None) -> AsyncIterator[str]:
        import anyio.to_thread

        for piece in pieces:
            if piece is None:
                raise RuntimeError("the connection breaks in the middle of the answer")
            if piece == "wait":
                await anyio.to_thread.run_sync(self.go_on.wait, 30)
            else:
                yield piece


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ChatEndpoint]:
    endpoint = ChatEndpoint()
    server = uvicorn.Server(uvicorn.Config(endpoint.app, ws="none", lifespan="off", log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield endpoint
        server.should_exit = True
        endpoint.go_on.set()
        thread.join(10)


@pytest.fixture(scope="module")
def cluster(examples: Path, endpoint: ChatEndpoint, api_key: str) -> Iterator[LocalCluster]:
    env = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_MODEL": "small", "OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}
    with LocalCluster(Plan(target=str(examples / "chat_tokens/workflow.py"), env=env, api_key=api_key)) as running:
        yield running


def everything_about(task: SyncTask, cluster: LocalCluster) -> str:
    """Return all that is kept of a task, and all that was logged."""
    logs = [path.read_text() for path in cluster.log_dir.glob("*.log")]
    return "\n".join([*(repr(event) for event in task.events()), repr(task.status()), *logs])


@pytest.mark.process
def test_the_client_prints_a_token_while_the_endpoint_is_still_speaking(
    start_script: Callable[..., Any], endpoint: ChatEndpoint
) -> None:
    endpoint.asked.clear()
    with start_script("chat_tokens/client.py", "tell", "a story") as script:
        # The endpoint says the rest only after this was seen.
        assert script.read_until("Once") == "Once"
        endpoint.go_on.set()
        assert [line for _, line in script.lines()] == [" upon a time", "(stop)"]
        assert script.exit_code == 0

    ((key, body),) = endpoint.asked
    assert key == f"Bearer {KEY}"
    assert (body["model"], body["stream"], body["messages"][-1]) == (
        "small",
        True,
        {"role": "user", "content": "tell a story"},
    )


@pytest.mark.process
def test_tokens_are_typed_events_on_their_channel_and_the_result_is_the_whole(
    cluster: LocalCluster, endpoint: ChatEndpoint
) -> None:
    endpoint.go_on.set()
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("chat", {"prompt": "tell a story"})
        events = [event for event in task.events() if event.kind == "workflow"]

        assert [(event.type, event.channel, event.data) for event in events] == [
            ("Token", "tokens", {"text": text}) for text in ("Once", " upon", " a time")
        ]
        assert task.result(10) == {"text": "Once upon a time", "finish_reason": "stop"}
        assert KEY not in everything_about(task, cluster)


@pytest.mark.process
@pytest.mark.parametrize(
    ("prompt", "told", "message"),
    [
        ("refuse", [], "the endpoint answered 401: .*Incorrect API key provided: Bearer "),
        ("no stream", [], "no answer from the endpoint: SSEError: .*'application/json'"),
        ("stop early", ["half "], "the endpoint's answer broke off"),
        ("hang up", ["half "], "no answer from the endpoint: RemoteProtocolError: "),
        ("fail", ["half "], "the endpoint reports: overloaded, Bearer "),
        ("garbage", ["half "], "the endpoint sent something else than a chat chunk: <html>"),
    ],
)
def test_a_failure_of_the_endpoint_is_told_without_the_key(
    cluster: LocalCluster, prompt: str, told: list[str], message: str
) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("chat", {"prompt": prompt})
        with pytest.raises(TaskFailed, match=message) as failed:
            task.result(30)

        assert [event.data["text"] for event in task.events() if event.channel == "tokens"] == told
        assert KEY not in everything_about(task, cluster)
        assert KEY not in str(failed.value)


@pytest.mark.process
def test_the_script_tells_a_failure_in_one_line(run_script: Callable[..., Any]) -> None:
    done = run_script("chat_tokens/client.py", "refuse")

    assert done.returncode == 1
    assert done.stderr.startswith("workflow.ChatError: the endpoint answered 401: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "lacks OPENAI_BASE_URL, OPENAI_MODEL, OPENAI_API_KEY"),
        (
            {"OPENAI_BASE_URL": "http://127.0.0.1:1", "OPENAI_API_KEY": KEY},
            "the worker's environment lacks OPENAI_MODEL",
        ),
        (
            {"OPENAI_BASE_URL": "http://127.0.0.1:1", "OPENAI_MODEL": "small", "OPENAI_API_KEY": f"{KEY}\nX: y"},
            "OPENAI_API_KEY holds characters that no HTTP header can carry",
        ),
    ],
)
def test_an_environment_that_will_not_do_is_told_by_the_names_in_it(
    examples: Path, env: dict[str, str], message: str
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-c", "import workflow; workflow.Endpoint.from_environment()"],
        cwd=examples / "chat_tokens",
        env=clean | env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert KEY not in done.stderr
