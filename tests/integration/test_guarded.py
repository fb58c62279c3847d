"""Both programs as users with least rights, without and with TLS: all that they do is allowed, and nothing else."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tailplane.client import Client, ClientOptions, Task, TaskCancelled, TaskFailed, TaskGone
from tailplane.deploy import probe
from tailplane.deploy.child import Child, tailplane_command
from tailplane.deploy.ports import HOST, free_port
from tailplane.deploy.valkey_binary import find_binary
from tailplane.protocol.errors import StoreForbidden
from tests.guarded_server import GuardedServer, password_of, redis_with_tls
from tests.sentinel_process import until

from .conftest import WORKFLOWS

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE = 60


@pytest.fixture(params=["valkey", "redis-with-tls"])
def guarded(request: pytest.FixtureRequest) -> Iterator[GuardedServer]:
    """A server with the users' file."""
    if request.param == "valkey":
        with GuardedServer(find_binary(), is_encrypted=False) as server:
            yield server
        return
    with GuardedServer(redis_with_tls(), is_encrypted=True) as server:
        yield server


@dataclass
class Fleet:
    """A control plane and two workers, each with the URL of its user."""

    url: str
    control_plane: Child
    workers: list[Child]

    @property
    def children(self) -> list[Child]:
        return [self.control_plane, *self.workers]

    def is_ready(self) -> bool:
        for child in self.children:
            assert child.is_running, child.log_tail()
        return probe.is_ready(self.url) and {each.pid for each in self.workers} <= probe.worker_pids(self.url)


@pytest.fixture
def fleet(guarded: GuardedServer, tmp_path: Path) -> Iterator[Fleet]:
    port = free_port()
    common = {"TAILPLANE_RETENTION": "8s", "TAILPLANE_DEAD_LETTER_RETENTION": "2m", "TAILPLANE_DRAIN_GRACE": "200ms"}
    control_plane = Child(
        "control-plane",
        tailplane_command("control-plane"),
        output=tmp_path / "control-plane",
        env=common
        | {"TAILPLANE_REDIS_URL": guarded.url("control-plane"), "TAILPLANE_HOST": HOST, "TAILPLANE_PORT": str(port)},
    )
    workers = [
        Child(
            f"worker-{number}",
            tailplane_command("worker", str(WORKFLOWS)),
            output=tmp_path / f"worker-{number}",
            env=common | {"TAILPLANE_REDIS_URL": guarded.url("worker")},
        )
        for number in (1, 2)
    ]
    running = Fleet(f"http://{HOST}:{port}", control_plane, workers)
    with contextlib.ExitStack() as stack:
        for child in running.children:
            stack.callback(child.kill)
            child.start()
        until(running.is_ready, "the fleet is ready")
        yield running


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    async with Client(fleet.url) as client:
        yield client


async def data_of(task: Task) -> list[object]:
    return [event.data async for event in task.events(include_platform=False)]


async def eventually(look: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(until, look, what)


async def live(client: Client) -> None:
    """Run and end tasks in each way that does not need a process to die."""
    async with client.start_session(metadata={"user": "ada"}) as session:
        task = await session.run_workflow("count", {"n": 300}, idempotency_key="once")
        assert (await session.run_workflow("count", {"n": 300}, idempotency_key="once")).task_id == task.task_id
        assert await data_of(task) == list(range(300))
        assert await task.result(timeout=PATIENCE) == 300
        assert {each.task_id async for each in client.tasks(workflow="count")} == {task.task_id}
        assert (await (await session.run_workflow("last_words", 500)).result(timeout=PATIENCE)) == 500
        assert (await (await session.run_workflow("third_time_lucky")).result(timeout=PATIENCE)) == 3
        running = await session.run_workflow("tick", 0.01)
        async for _ in running.events(include_platform=False):
            break
        await running.cancel("enough")
        with pytest.raises(TaskCancelled):
            await running.result(timeout=PATIENCE)
        await session.run_workflow("tick", 0.01)
        await session.close(cancel=True)


async def fail_and_requeue(client: Client) -> None:
    failed = await client.run_workflow("fail", 1)
    with pytest.raises(TaskFailed):
        await failed.result(timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while failed.task_id not in {each.task_id async for each in client.dead_letters()}:
            await asyncio.sleep(0.05)
    again = await client.requeue(failed.task_id)
    with pytest.raises(TaskFailed):
        await again.result(timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while again.task_id not in {each.task_id async for each in client.dead_letters()}:
            await asyncio.sleep(0.05)
    await client.drop_dead_letter(again.task_id)


async def lose_a_worker(client: Client, fleet: Fleet) -> None:
    """Kill the worker that runs a task, and let the task go to the other; then that one is told to stop."""
    task = await client.run_workflow("count", {"n": 100, "pause": 0.02})
    async for _ in task.events(include_platform=False):
        break
    host = (await task.status()).worker_id
    (pid,) = [each.pid for each in await client.workers() if each.worker_id == host]
    (lost,) = [each for each in fleet.workers if each.pid == pid]
    (left,) = [each for each in fleet.workers if each is not lost]
    lost.kill()
    types = []
    async for event in task.events():
        types.append(event.type)
        if types.count("task.started") == 2 and event.kind == "workflow":
            break
    assert "task.worker_lost" in types
    # Asked for already: it is kept for eight seconds, and a busy machine may take longer to start a worker.
    ending = asyncio.ensure_future(task.result(timeout=PATIENCE))
    lost.start()
    await eventually(fleet.is_ready, "the worker is back")
    left.terminate()
    assert await asyncio.to_thread(left.wait, PATIENCE) == 0
    assert await ending == 100


async def forget(client: Client, task: Task) -> None:
    """Wait until a task's retention has passed, and it has been found gone."""
    async with asyncio.timeout(PATIENCE):
        while task.task_id in {each.task_id async for each in client.tasks()}:
            await asyncio.sleep(0.2)
    with pytest.raises(TaskGone):
        await task.status()


async def take_a_right_and_give_it_back(guarded: GuardedServer, fleet: Fleet, client: Client) -> None:
    """Let no attempt begin for a while: the worker says why, and loses nothing."""
    guarded.ask("ACL", "SETUSER", "worker", "-xrevrange")
    task = await client.run_workflow("echo", 1)
    logs = fleet.workers
    await eventually(
        lambda: any("Redis refuses" in child.log_tail() for child in logs), "a worker says what is refused"
    )
    assert (await task.status()).state == "queued"
    guarded.ask("ACL", "LOAD")
    assert await task.result(timeout=PATIENCE) == 1
    guarded.ask("ACL", "SETUSER", "control-plane", "-hmget")
    with pytest.raises(StoreForbidden, match="no right to run HMGET"):
        await Client(fleet.url, options=ClientOptions(retry_for=timedelta(seconds=0.1))).task(task.task_id).status()
    guarded.ask("ACL", "LOAD")
    assert (await task.status()).state == "succeeded"


async def diagnosis(guarded: GuardedServer, fleet: Fleet) -> str:
    """Return what the doctor writes, asked by who has the control plane's URL."""
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tailplane.deploy", "doctor"],
        env=os.environ | {"TAILPLANE_URL": fleet.url, "TAILPLANE_REDIS_URL": guarded.url("control-plane")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return run.stdout + run.stderr


async def test_all_that_tasks_go_through_is_allowed(guarded: GuardedServer, fleet: Fleet, client: Client) -> None:
    await asyncio.gather(live(client), fail_and_requeue(client))
    forgotten = await client.run_workflow("echo", 1)
    assert await forgotten.result(timeout=PATIENCE) == 1
    doctor, _ = await asyncio.gather(diagnosis(guarded, fleet), lose_a_worker(client, fleet))
    assert "the user may do what control planes need" in doctor
    await forget(client, forgotten)
    assert guarded.refused() == []
    await take_a_right_and_give_it_back(guarded, fleet, client)
    for child in fleet.children:
        child.terminate()
    for child in fleet.children:
        assert await asyncio.to_thread(child.wait, PATIENCE) == 0, child.log_tail()

    written = doctor + "".join(child.log_tail() for child in fleet.children)
    assert "p@ss" not in written
    assert "p%40ss" not in written
    assert password_of("worker") not in written


@pytest.mark.parametrize(("name", "command"), [("control-plane", ()), ("worker", (str(WORKFLOWS),))])
def test_a_program_that_lacks_a_right_does_not_start_and_says_which(
    tmp_path: Path, name: str, command: tuple[str, ...]
) -> None:
    with GuardedServer(find_binary(), is_encrypted=False) as server:
        server.ask("ACL", "SETUSER", name, "-xadd")
        env = {"TAILPLANE_REDIS_URL": server.url(name), "TAILPLANE_PORT": str(free_port())}
        child = Child(name, tailplane_command(name, *command), output=tmp_path / name, env=env)
        try:
            child.start()
            assert child.wait(PATIENCE) == 1
        finally:
            child.kill()
    log = child.log_tail()
    (refused,) = re.findall("error: Redis refuses to the program's user: (.*)", log)
    assert "XADD of tailplane:default:stream:{t_probe}" in refused
    assert "hint:  deploy/redis/users.acl" in log
    assert "Traceback" not in log
    assert "p%40ss" not in log
