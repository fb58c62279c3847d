"""The program that `benchmarks.systems.dbos` starts: a FastAPI application that runs DBOS workflows.

    python -m benchmarks.systems.peers.dbos_server PORT SYSTEM_DATABASE_URL

The workflows run in the application's process, and a step writes the stream, as DBOS' documentation shows it for the
tokens of a language model: cheaper than writing from the workflow, where each write is a checkpoint of its own.
"""

import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from dbos import DBOS
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from benchmarks.systems.peers.serving import serve

_STREAM = "events"


class EmitRequest(BaseModel):
    count: int
    rate: float
    pad: int
    delay: float


class RunRequest(BaseModel):
    value: Any


@DBOS.step()
def write_events(count: int, rate: float, pad: int, delay: float) -> None:
    padding = "x" * pad
    time.sleep(delay)
    # One transaction each: there is no call that writes several.
    for i in range(count):
        DBOS.write_stream(_STREAM, {"i": i, "t": time.monotonic(), "pad": padding})
        if rate:
            time.sleep(1 / rate)


@DBOS.workflow()
def emit(count: int, rate: float, pad: int, delay: float) -> int:
    write_events(count, rate, pad, delay)
    # Tells the readers at once; that a workflow has ended they would see up to a second later.
    DBOS.close_stream(_STREAM)
    return count


@DBOS.workflow()
def echo(value: Any) -> Any:
    return value


app = FastAPI()


@app.get("/health")
def health() -> None:
    """Answer."""


@app.post("/tasks")
def start_task(request: EmitRequest) -> str:
    return DBOS.start_workflow(emit, request.count, request.rate, request.pad, request.delay).workflow_id


@app.get("/tasks/{task}/events")
async def stream_events(task: str) -> StreamingResponse:
    return StreamingResponse(_sse(task), media_type="text/event-stream")


@app.post("/run")
def run_task(request: RunRequest) -> Any:
    return echo(request.value)


async def _sse(task: str) -> AsyncIterator[str]:
    async for event in DBOS.read_stream_async(task, _STREAM):
        yield f"data: {json.dumps(event)}\n\n"


def main(port: str, database: str) -> None:
    DBOS(config={"name": "benchmark", "system_database_url": database, "log_level": "WARNING"})
    DBOS.launch()
    serve(app, port)


if __name__ == "__main__":
    main(*sys.argv[1:])
