"""The program that `benchmarks.systems.llama_agents` starts: a WorkflowServer with two workflows, under uvicorn.

    python -m benchmarks.systems.peers.llama_agents_server PORT [SQLITE_FILE]

Served as the package's own command does it, by `uvicorn.run(server.app)` and in one process: the server keeps its
running workflows, and by default their events, in its own memory.
"""

import asyncio
import sys
import time

from llama_agents.server import SqliteWorkflowStore, WorkflowServer
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from benchmarks.systems.peers.serving import serve


class Emitted(Event):
    i: int
    t: float
    pad: str


class EmitWorkflow(Workflow):
    @step
    async def emit(self, ctx: Context, ev: StartEvent) -> StopEvent:
        count, pause, padding = ev.get("count"), 1 / ev.get("rate") if ev.get("rate") else 0, "x" * ev.get("pad")
        if ev.get("delay"):
            await asyncio.sleep(ev.get("delay"))
        for i in range(count):
            ctx.write_event_to_stream(Emitted(i=i, t=time.monotonic(), pad=padding))
            # The call above leaves a task behind that stores the event: it needs the loop, also without a rate.
            await asyncio.sleep(pause)
        return StopEvent(result=count)


class EchoWorkflow(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.get("value"))


def main(port: str, sqlite: str | None = None) -> None:
    server = WorkflowServer(workflow_store=SqliteWorkflowStore(db_path=sqlite) if sqlite else None)
    server.add_workflow("emit", EmitWorkflow(timeout=None), additional_events=[Emitted])
    server.add_workflow("echo", EchoWorkflow())
    serve(server.app, port)


if __name__ == "__main__":
    main(*sys.argv[1:])
