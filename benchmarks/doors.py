"""What signing in costs: `python -m benchmarks.doors`.

One process serves the same application twice on one Valkey: on one port it demands API keys, on the other it asks
nobody. The same requests go to one and the other in turn, in short runs and changing order, so that what drifts on the
machine, and what a process has by luck (its memory's layout), hits both. Processor time is the server's alone, from the
scheduler's own books. Whatever else runs on the machine only adds to it (cold caches), so the best tenth of the runs of
each side are compared, beside the median of the ratios within pairs. The rate is what the clients got.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import uvloop
from redis.asyncio import Redis

from benchmarks import procfs
from benchmarks.percentiles import percentile
from benchmarks.processes import ROOT
from tailplane.broker import Append, Broker, Closing, NewTask, TaskRef, WorkerRecord, WorkflowRecord, connect
from tailplane.broker.api_keys import NewKey
from tailplane.broker.garbage import collect_seldom
from tailplane.broker.logs import configure_logging
from tailplane.control_plane import Settings, create_app
from tailplane.control_plane.server import Server
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import HOST
from tailplane.protocol.credentials import StreamToken
from tailplane.protocol.events import PlatformType, join_events, pack_event, pack_platform_event
from tailplane.protocol.ids import EntryId, new_task_id, new_worker_id
from tailplane.protocol.scopes import Action, Scope
from tailplane.protocol.states import Trigger

# Connections that ask at once: the server is never without a request.
CONNECTIONS = 8
# Events of the stream that is read, and how many an entry has, as under load.
EVENTS = 20_000
PACKED = 50
_DAY = timedelta(days=1)
_BODY = b'{"workflow":"echo","input":{"n":1}}'
_FRAMES = b"application/vnd.tailplane.frames+msgpack"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: the same bytes again and again.

    Attributes:
        count: in one run.
        head: request line and headers, but for Host and credential.
        signed_by: `key`, or `token`: a stream token.
    """

    name: str
    count: int
    head: bytes
    body: bytes = b""
    signed_by: str = "key"

    def request(self, credential: str | None) -> bytes:
        signed = b"" if credential is None else b"Authorization: Bearer " + credential.encode() + b"\r\n"
        length = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(self.body) if self.body else b""
        return self.head + b"Host: 127.0.0.1\r\n" + signed + length + b"\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Side:
    """A port of the server's process and what its callers sign with; None: nothing."""

    pid: int
    port: int
    credentials: dict[str, str] | None

    def credential(self, kind: Kind) -> str | None:
        return None if self.credentials is None else self.credentials[kind.signed_by]


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds of the clock and of the control plane's processor time."""

    took: float
    cpu: float


async def ask(port: int, request: bytes, count: int) -> int:
    """Send a request so many times on one connection, each when the one before is answered; return the bytes read."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**20)
    read = 0
    try:
        for _ in range(count):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if head[9:10] != b"2":
                raise RuntimeError(head.decode())
            if b"content-length: " in head:
                read += len(await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])))
            else:
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    read += len(await reader.readexactly(size + 2))
                await reader.readexactly(2)
    finally:
        writer.close()
    return read


async def measure(side: Side, kind: Kind) -> Run:
    """Put one run of a kind on a control plane."""
    request, each = kind.request(side.credential(kind)), max(1, kind.count // CONNECTIONS)
    began, cpu = time.perf_counter(), procfs.exact_cpu_seconds(side.pid)
    read = await asyncio.gather(*(ask(side.port, request, each) for _ in range(min(CONNECTIONS, kind.count))))
    run = Run(time.perf_counter() - began, procfs.exact_cpu_seconds(side.pid) - cpu)
    assert min(read) > 0
    return run


async def prepare(broker: Broker) -> tuple[list[Kind], dict[str, str]]:
    """Make what the requests are about; return them, and the credentials."""
    echo = WorkflowRecord("echo", "1", "", {}, None, 1, None)
    await broker.queue.register(WorkerRecord(new_worker_id(), "host", 1, "0", ["echo"], 1, 0), [echo], _DAY)
    record, key = await broker.api_keys.create(
        NewKey(tenant="default", name="bench", scopes=frozenset({Scope.SUBMIT, Scope.READ}))
    )
    task = await ended_task(broker)
    token = StreamToken(
        token_id="bench",
        tenant="default",
        key_id=record.key_id,
        subject=task.task_id,
        actions=frozenset({Action.READ}),
        expires_ms=int((time.time() + _DAY.total_seconds()) * 1000),
    ).sign(record.signing)
    of_task = f"/v1/tasks/{task.task_id}".encode()
    short, long = b"GET %b HTTP/1.1\r\n" % of_task, b"GET %b/events HTTP/1.1\r\nAccept: %b\r\n"
    small = await ended_task(broker, events=PACKED)
    of_small = f"/v1/tasks/{small.task_id}".encode()
    kinds = [
        Kind("submit a task", 200, b"POST /v1/tasks HTTP/1.1\r\n", _BODY),
        Kind("look at a task", 400, short),
        Kind("look at a task, with a stream token", 400, short, signed_by="token"),
        Kind("list schedules", 160, b"GET /v1/schedules?limit=1 HTTP/1.1\r\n"),
        Kind(f"read a stream of {PACKED} events", 200, long % (of_small, _FRAMES)),
        Kind(f"read a stream of {EVENTS:,} events", 8, long % (of_task, _FRAMES)),
    ]
    return kinds, {"key": key.text, "token": token}


async def ended_task(broker: Broker, events: int = EVENTS) -> TaskRef:
    """Make a task that has written so many events and ended."""
    task, worker = TaskRef(new_task_id()), new_worker_id()
    await broker.tasks.create(NewTask(task, "echo", "1", b"\xc0"))
    begun = await broker.tasks.begin(task, worker, "host")
    seq, entries = begun.seq, begun.entries
    packed = join_events([pack_event("x" * 64)] * PACKED)
    for _ in range(events // PACKED):
        seq += PACKED
        assert await broker.log.append([Append(task, EntryId(1, seq), packed, entries, worker)]) == [None]
        entries += 1
    last = pack_platform_event(PlatformType.SUCCEEDED, {"result": None})
    await broker.tasks.finish(task, Closing(Trigger.SUCCEED, 1, seq, [last], ["result", b"\xc0"]))
    return task


async def serve(redis_url: str) -> None:
    """Serve both sides until killed, and print their ports."""
    configure_logging("error", "json")
    collect_seldom()
    serving, ports = [], []
    for auth in ("none", "keys"):
        settings = Settings(redis_url=redis_url, port=0, auth=auth, max_queued=10**7, metrics_port=None)
        server = Server(create_app(settings), settings)
        serving.append(asyncio.create_task(server.serve()))
        # As it tells of it by itself.
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ports.append(server.servers[0].sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    await asyncio.gather(*serving)


@contextlib.contextmanager
def served(redis_url: str, credentials: dict[str, str]) -> Iterator[tuple[Side, Side]]:
    """Run the process that has both sides, and give that without keys and that with them."""
    command = [sys.executable, "-m", "benchmarks.doors", "--serve", redis_url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            bare, signed = json.loads(process.stdout.readline())
            yield Side(process.pid, bare, None), Side(process.pid, signed, credentials)
        finally:
            process.kill()


@dataclass
class Figures:
    """Of one kind of request, for each pair of runs: processor time of a request without and with keys; the rates."""

    bare_us: list[float] = field(default_factory=list)
    signed_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def note(self, kind: Kind, bare: Run, signed: Run) -> None:
        self.bare_us.append(bare.cpu / kind.count * 1e6)
        self.signed_us.append(signed.cpu / kind.count * 1e6)
        self.rates.append(bare.took / signed.took)

    @property
    def cells(self) -> list[str]:
        bare, signed = percentile(self.bare_us, 0.1), percentile(self.signed_us, 0.1)
        pairs = [more / less for more, less in zip(self.signed_us, self.bare_us, strict=True)]
        return [f"{bare:,.1f}", f"{signed:,.1f}", f"{(signed / bare - 1) * 100:+.1f} %", told(pairs), told(self.rates)]


async def run(rounds: int, pairs: int) -> None:
    with EmbeddedServer() as server:
        client = connect(server.url, Redis)
        broker = Broker.over(client, prefix="tailplane", retention=_DAY, start_within=_DAY)
        kinds, credentials = await prepare(broker)
        found = {kind.name: Figures() for kind in kinds}
        for _ in range(rounds):
            with served(server.url, credentials) as sides:
                for kind in kinds:
                    # Warm: connections, caches, the interpreter's own specialising.
                    for side in sides:
                        await measure(side, kind)
                    for number in range(pairs):
                        order = sides if number % 2 else sides[::-1]
                        ran = {side.port: await measure(side, kind) for side in order}
                        found[kind.name].note(kind, ran[sides[0].port], ran[sides[1].port])
        await client.aclose(close_connection_pool=True)
    print(f"{rounds} processes, {pairs} pairs of runs each; with keys against without: median (quartiles)\n")
    heads = ["request", "without, us", "with, us", "best tenth", "processor time, pairs", "throughput, pairs"]
    for cells in (heads, ["---"] * len(heads), *([kind.name, *found[kind.name].cells] for kind in kinds)):
        print(f"| {' | '.join(cells)} |")


def told(ratios: list[float]) -> str:
    low, high = percentile(ratios, 0.25), percentile(ratios, 0.75)
    return f"{(statistics.median(ratios) - 1) * 100:+.1f} % ({(low - 1) * 100:+.1f} to {(high - 1) * 100:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="processes (5)")
    parser.add_argument("--pairs", type=int, default=40, help="pairs of runs of each kind in each (40)")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    uvloop.run(serve(given.serve) if given.serve else run(given.rounds, given.pairs))


if __name__ == "__main__":
    main()
