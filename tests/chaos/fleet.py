"""The processes of a run, each a real one, and the proxies between them.

    clients -> front -> control planes -> a link each -> Valkey
                               workers -> a link each ->

The shards of a cluster, where there is one, are reached without a link.

Control planes keep their ports, so that the front finds them again. They demand API keys, unless told otherwise.
Everything ends with `Fleet`'s block.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tailplane.deploy import probe
from tailplane.deploy.child import Child, tailplane_command
from tailplane.deploy.cluster import stop_all
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import HOST, free_port
from tests.chaos.doors import Doors, open_doors
from tests.chaos.faults import SHARDS
from tests.chaos.workflows import LEDGER
from tests.proxy import Proxy, serving
from tests.redis_cluster import RedisCluster

_ROOT = Path(__file__).resolve().parents[2]
_POLL = 0.05
# Seconds: for a start on a machine with much else to do; for a drain, whatever is out of order around it.
_START = 60.0
_DRAIN = 25.0
# What a worker's tasks get when it drains: short, so that some are handed back.
_DRAIN_GRACE = "1s"


@dataclass(slots=True, eq=False)
class Member:
    """A process of the fleet, its way to Valkey, and how to see that it works.

    Attributes:
        lock: held by whoever takes it down, until it works again. All control planes have the same one: one of them
            always stays.
        troubles: what it did wrong, such as to end by itself.
    """

    child: Child
    link: Proxy
    log: Path
    works: Callable[[], bool]
    lock: asyncio.Lock
    troubles: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.child.pid or 0

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await asyncio.to_thread(self.child.kill)

    async def drain(self) -> None:
        """End it with SIGTERM; that it does not end well is a trouble of its own."""
        await asyncio.to_thread(self.child.stop, _DRAIN)
        if self.child.returncode != 0:
            self._note(f"ended with {self.child.returncode} on SIGTERM")

    async def start(self) -> None:
        """Start it and wait until it works."""
        await asyncio.to_thread(self.child.start)
        deadline = time.monotonic() + _START
        while not await asyncio.to_thread(self.works):
            if not self.child.is_running or time.monotonic() > deadline:
                self._note("did not start")
                return
            await asyncio.sleep(_POLL)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.child.is_running:
            os.kill(self.pid, number)

    async def look(self) -> None:
        """Start it again where it ended by itself, and hold that against it."""
        if self.lock.locked() or self.child.is_running:
            return
        async with self.lock:
            self._note(f"ended by itself, with {self.child.returncode}")
            await self.start()

    def _note(self, what: str) -> None:
        last_lines = "\n".join(self.child.log_tail().splitlines()[-5:])
        self.troubles.append(f"{self.child.name} {what}; the end of its log:\n{last_lines}")


@dataclass(slots=True)
class Fleet:
    """What runs; `fleet` starts it.

    Attributes:
        server: has the queue, and everything where there are no `shards`.
        doors: who signs in; None: nobody does.
    """

    server: EmbeddedServer
    workers: list[Member]
    control_planes: list[Member]
    front: Proxy
    ledger: Path
    shards: RedisCluster | None = None
    doors: Doors | None = None
    server_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shards_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def members(self) -> list[Member]:
        """All processes but Valkey."""
        return [*self.control_planes, *self.workers]

    @property
    def stores(self) -> list[EmbeddedServer]:
        """The servers that have keys, each key once."""
        return [self.server, *(self.shards.primaries() if self.shards else ())]

    @property
    def url(self) -> str:
        """Where clients come in."""
        return f"http://{HOST}:{self.front.port}"

    @property
    def direct_url(self) -> str:
        """A control plane without a proxy before it."""
        return f"http://{HOST}:{self.front.targets[0]}"

    async def mind(self) -> None:
        """Look after those who end by themselves, until cancelled."""
        while True:
            for member in self.members:
                await member.look()
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def fleet(
    directory: Path, *, workers: int, control_planes: int, has_shards: bool = False, signs_in: bool = True
) -> AsyncIterator[Fleet]:
    """Run a fleet for the length of a block; at its end all of it is taken down, whatever state it is in.

    Args:
        has_shards: whether the streams are on a cluster of their own.
        signs_in: whether control planes demand API keys, of several tenants.
    """
    # always: a killed server has all that it acknowledged.
    server = EmbeddedServer(directory / "valkey", persist=True, config={"appendfsync": "always"})
    ports = [free_port() for _ in range(control_planes)]
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(server.stop)
        await asyncio.to_thread(server.start)
        shards = RedisCluster(SHARDS, directory=directory, persist=True) if has_shards else None
        if shards:
            stack.callback(shards.stop)
            await asyncio.to_thread(shards.start)
        env = {"TAILPLANE_STREAMS_URL": shards.url} if shards else {}
        env |= {"TAILPLANE_AUTH": "keys" if signs_in else "none", "TAILPLANE_ADMIN_KEY": ""}
        links = [await stack.enter_async_context(serving(Proxy(server.port))) for _ in range(control_planes + workers)]
        ledger, one_at_a_time = directory / "ledger", asyncio.Lock()
        running = Fleet(
            server=server,
            control_planes=[
                _control_plane(directory, i, port, links[i], env, one_at_a_time) for i, port in enumerate(ports)
            ],
            workers=[_worker(directory, i, links[control_planes + i], env, ledger) for i in range(workers)],
            front=await stack.enter_async_context(serving(Proxy(*ports))),
            ledger=ledger,
            shards=shards,
        )
        if signs_in:
            # Before a control plane starts: without any key it would not.
            running.doors = await stack.enter_async_context(open_doors(server.url, running.url))
        stack.push_async_callback(_take_down, running)
        await asyncio.gather(*(member.start() for member in running.members))
        yield running


async def _take_down(running: Fleet) -> None:
    for member in running.members:
        # A stopped process hears no SIGTERM.
        member.signal(signal.SIGCONT)
    await asyncio.to_thread(stop_all, [member.child for member in running.members], _DRAIN)


def _control_plane(
    directory: Path, index: int, port: int, link: Proxy, env: dict[str, str], lock: asyncio.Lock
) -> Member:
    env = {**env, "TAILPLANE_HOST": HOST, "TAILPLANE_PORT": str(port)}
    # Not its readiness, which is a question of Valkey's too.
    works = partial(_answers, f"http://{HOST}:{port}")
    return _member(directory, f"control-plane-{index + 1}", ("control-plane",), link, env, works, lock)


def _worker(directory: Path, index: int, link: Proxy, env: dict[str, str], ledger: Path) -> Member:
    env = {**env, LEDGER: str(ledger), "TAILPLANE_DRAIN_GRACE": _DRAIN_GRACE}
    name = f"worker-{index + 1}"
    works = _Said(directory / f"{name}.log", b"worker starts")
    return _member(directory, name, ("worker", "tests.chaos.workflows"), link, env, works, asyncio.Lock())


def _member(
    directory: Path,
    name: str,
    arguments: tuple[str, ...],
    link: Proxy,
    env: dict[str, str],
    works: Callable[[], bool],
    lock: asyncio.Lock,
) -> Member:
    log = directory / f"{name}.log"
    ours = {"TAILPLANE_REDIS_URL": f"redis://{HOST}:{link.port}/0", "TAILPLANE_LOG_FORMAT": "json"}
    child = Child(name, tailplane_command(*arguments), output=log, env=ours | env, cwd=_ROOT)
    return Member(child, link, log, works, lock)


def _answers(url: str) -> bool:
    answer = probe.get_json(url, "/healthz")
    return answer is not None and answer[0] == 200


class _Said:
    """Whether a process has written some words once more than when that was last seen."""

    def __init__(self, log: Path, words: bytes) -> None:
        self._log = log
        self._words = words
        self._times = 0

    def __call__(self) -> bool:
        times = self._log.read_bytes().count(self._words) if self._log.exists() else 0
        if times == self._times:
            return False
        self._times = times
        return True
