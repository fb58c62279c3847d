"""Two deployments that share a Redis, each with a prefix and users of its own: neither sees anything of the other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tailplane.client import (
    DeadLetterNotFound,
    KeyNotFound,
    Schedule,
    ScheduleNotFound,
    SessionNotFound,
    SyncClient,
    TaskNotFound,
    Unauthenticated,
)
from tailplane.deploy import probe
from tailplane.deploy.child import Child, tailplane_command
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.ports import HOST, free_port
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id
from tests.sentinel_process import until

from .conftest import WORKFLOWS

pytestmark = [pytest.mark.process, pytest.mark.slow]

RULES = (Path(__file__).parents[2] / "deploy" / "redis" / "users.acl").read_text()
PATIENCE = 60


@dataclass
class Deployment:
    """A control plane and a worker, as users who may touch keys of the prefix only."""

    prefix: str
    server: EmbeddedServer
    key: ApiKey
    url: str

    def as_user(self, name: str) -> str:
        return self.server.url.replace("redis://", f"redis://{self.prefix}-{name}:pw@")

    def client(self, key: ApiKey | None = None) -> SyncClient:
        return SyncClient(self.url, api_key=(key or self.key).text)


def make_users(server: EmbeddedServer, prefix: str) -> None:
    """Make the users of the file for one prefix, beside those of others."""
    with redis.Redis.from_url(server.url) as admin:
        for name in ("control-plane", "worker"):
            (rules,) = re.findall(rf"^user {name} reset on #<{name}> (.*)$", RULES, re.MULTILINE)
            words = re.findall(r"\([^)]*\)|\S+", rules.replace("tailplane:", f"{prefix}:"))
            admin.execute_command("ACL", "SETUSER", f"{prefix}-{name}", "reset", "on", ">pw", *words)


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Deployment]]:
    logs = tmp_path_factory.mktemp("logs")
    children = []

    def start(server: EmbeddedServer, prefix: str) -> Deployment:
        make_users(server, prefix)
        port = free_port()
        made = Deployment(prefix, server, ApiKey.draw(new_key_id()), f"http://{HOST}:{port}")
        for name, command in (("control-plane", ("control-plane",)), ("worker", ("worker", str(WORKFLOWS)))):
            env = {
                "TAILPLANE_REDIS_URL": made.as_user(name),
                "TAILPLANE_PREFIX": prefix,
                "TAILPLANE_HOST": HOST,
                "TAILPLANE_PORT": str(port),
                "TAILPLANE_AUTH": "keys",
                "TAILPLANE_ADMIN_KEY": made.key.text,
            }
            child = Child(name, tailplane_command(*command), output=logs / f"{prefix}-{name}", env=env)
            children.append(child)
            child.start()
        until(
            lambda: bool(probe.worker_pids(made.url, 5, made.key.text)),
            "the worker is known",
        )
        return made

    try:
        with EmbeddedServer() as server:
            # One begins as the other does.
            yield start(server, "shop"), start(server, "shop-test")
    finally:
        for child in children:
            child.kill()


@pytest.fixture
def ours(deployments: tuple[Deployment, Deployment]) -> Iterator[SyncClient]:
    with deployments[0].client() as client:
        yield client


@pytest.fixture
def theirs(deployments: tuple[Deployment, Deployment]) -> Iterator[SyncClient]:
    with deployments[1].client() as client:
        yield client


def test_a_key_opens_its_own_deployment(deployments: tuple[Deployment, Deployment]) -> None:
    one, other = deployments
    with one.client(other.key) as stranger, pytest.raises(Unauthenticated):
        stranger.whoami()
    with one.client() as ours:
        with pytest.raises(KeyNotFound):
            ours.revoke_key(other.key.key_id)
        assert [each.key_id for each in list(ours.keys())] == [one.key.key_id]


def test_nothing_of_one_is_listed_or_found_in_the_other(ours: SyncClient, theirs: SyncClient) -> None:
    with ours.start_session() as session:
        task = session.run_workflow("count", {"n": 3})
        assert task.result(timeout=PATIENCE) == 3
        with pytest.raises(SessionNotFound):
            theirs.session(session.session_id)
    ours.put_schedule("nightly", Schedule(workflow="count", input_data={"n": 1}, cron="0 3 * * *"))
    assert [each.task_id for each in ours.tasks()] == [task.task_id]
    assert [each.name for each in ours.schedules()] == ["nightly"]
    assert list(theirs.tasks()) == list(theirs.schedules()) == list(theirs.dead_letters()) == []
    for look in (theirs.task(task.task_id).status, theirs.task(task.task_id).cancel, theirs.task(task.task_id).steps):
        with pytest.raises(TaskNotFound):
            look()
    with pytest.raises(TaskNotFound):
        list(theirs.get_task_result_stream(task.task_id))
    with pytest.raises((TaskNotFound, DeadLetterNotFound)):
        theirs.requeue(task.task_id)
    with pytest.raises(ScheduleNotFound):
        theirs.schedule("nightly")
    assert {each.worker_id for each in ours.workers()}.isdisjoint(each.worker_id for each in theirs.workers())


def test_each_runs_its_own_tasks_and_reads_their_streams(ours: SyncClient, theirs: SyncClient) -> None:
    # Side by side, of the same workflow: whoever heard the other's bells, or claimed its tasks, would show it here.
    mine, yours = ours.run_workflow("count", {"n": 50, "pause": 0.02}), theirs.run_workflow("count", {"n": 7})
    assert yours.result(timeout=PATIENCE) == 7
    assert mine.result(timeout=PATIENCE) == 50
    assert len([event for event in mine.events() if event.kind == "workflow"]) == 50
    assert len([event for event in yours.events() if event.kind == "workflow"]) == 7
    assert {mine.status().worker_id} == {each.worker_id for each in ours.workers()}
    assert {yours.status().worker_id} == {each.worker_id for each in theirs.workers()}


def test_redis_itself_keeps_them_apart(
    deployments: tuple[Deployment, Deployment], ours: SyncClient, theirs: SyncClient
) -> None:
    for client in (ours, theirs):
        client.run_workflow("count", {"n": 1}).result(timeout=PATIENCE)
    one, other = deployments
    with redis.Redis.from_url(one.server.url) as admin:
        names = [name.decode() for name in admin.scan_iter()]
    assert {name.partition(":")[0] for name in names} == {one.prefix, other.prefix}
    foreign = [name for name in names if name.startswith(f"{other.prefix}:")]
    channels = [f"{other.prefix}:default:bell:{{t_1}}", f"{other.prefix}:{{queue}}:ends:x"]
    for user in ("control-plane", "worker"):
        with redis.Redis.from_url(one.as_user(user)) as stranger:
            for name in foreign:
                for command in (("EXISTS", name), ("EXPIRE", name, 1)):
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        stranger.execute_command(*command)
            for channel in channels:
                for command in (("PUBLISH", channel, ""), ("SUBSCRIBE", channel)):
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        stranger.execute_command(*command)
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command("KEYS", "*")
