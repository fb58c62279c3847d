"""The API: a POST enqueues a job, a GET streams its events."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI, Header, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from redis.asyncio import Redis

from benchmarks.systems.by_hand import config

BLOCK_MS = 15_000


class Job(BaseModel):
    function: str
    arguments: dict[str, Any]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.queue = await create_pool(RedisSettings.from_dsn(config.REDIS_URL))
    app.state.redis = Redis.from_url(config.REDIS_URL, decode_responses=True)
    yield
    await app.state.redis.aclose()
    await app.state.queue.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/tasks", status_code=202)
async def submit(job: Job, request: Request) -> dict[str, str]:
    task_id = uuid.uuid4().hex
    await request.app.state.queue.enqueue_job(job.function, job.arguments, _job_id=task_id)
    return {"task_id": task_id}


@app.get("/tasks/{task_id}/events")
async def events(task_id: str, request: Request, last_event_id: str = Header("0")) -> StreamingResponse:
    body = follow(request.app.state.redis, task_id, last_event_id)
    return StreamingResponse(body, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def follow(redis: Redis, task_id: str, last_id: str) -> AsyncIterator[str]:
    """Tail a task's stream as Server-Sent Events until its end event."""
    key = config.events_key(task_id)
    yield ": connected\n\n"
    while True:
        found = await redis.xread({key: last_id}, count=500 if config.BATCHED else None, block=BLOCK_MS)
        if not found:
            yield ": keep-alive\n\n"
            continue
        messages = []
        for entry_id, fields in found[0][1]:
            last_id = entry_id
            name = "event: end\n" if fields["type"] == "end" else ""
            message = f"id: {entry_id}\n{name}data: {fields['data']}\n\n"
            if config.BATCHED:
                messages.append(message)
            else:
                yield message
            if name:
                if messages:
                    yield "".join(messages)
                return
        if messages:
            yield "".join(messages)
