"""The users of `deploy/redis/users.acl`: what each may do, what it may not, and what the programs say of it."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from structlog.testing import capture_logs

import tailplane.broker
from tailplane.broker import Broker, Keys, NewTask, RightsMissing, TaskRef, connect, rights, wait_until_fit
from tailplane.broker.store import Command
from tailplane.control_plane.hub import Hub
from tailplane.deploy.valkey_binary import find_binary
from tailplane.protocol import codec
from tailplane.protocol.cursor import Now
from tailplane.protocol.errors import StoreForbidden
from tailplane.protocol.ids import new_task_id, new_worker_id
from tests.conftest import RETENTION, START_WITHIN
from tests.guarded_server import ROOT, USERS, GuardedServer, filled_users, password_of
from tests.sentinel_process import until

KEYS = Keys()
NEEDS = {"control-plane": rights.of_control_plane(KEYS), "worker": rights.of_worker(KEYS)}
# What the programs can do without, or need in a cluster, with a database of another number, or for the trial itself.
BESIDE = {
    "ping", "select", "role", "info", "multi", "exec", "discard",
    "cluster|slots", "cluster|info", "asking", "ssubscribe", "sunsubscribe", "spublish",
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedServer]:
    with GuardedServer(find_binary(), is_encrypted=False, repl_diskless_sync_delay=0) as server:
        yield server


@pytest.fixture(params=NEEDS)
def user(request: pytest.FixtureRequest, guarded: GuardedServer) -> Iterator[str]:
    """A program's user, whose rights are again those of the file afterwards."""
    yield request.param
    guarded.ask("ACL", "LOAD")
    guarded.ask("ACL", "LOG", "RESET")


@pytest.fixture
async def client(guarded: GuardedServer, user: str) -> AsyncIterator[Redis]:
    client = connect(guarded.url(user), Redis)
    yield client
    await client.aclose(close_connection_pool=True)


# What a worker reads by a selector, of tenants.
SELECTED = {"EVAL", "HMGET"}


def rules(user: str) -> str:
    (line,) = re.findall(rf"^user {user} .*$", (ROOT / "deploy" / "redis" / "users.acl").read_text(), re.MULTILINE)
    return str(line)


def allowed(user: str) -> set[str]:
    return set(re.findall(r" \+([\w|]+)", rules(user).replace("(", " ").replace(")", " ")))


def verbs(needs: Sequence[Command]) -> set[str]:
    return {str(need[0]).lower() for need in needs}


async def test_the_file_gives_what_is_needed_and_nothing_is_done_by_the_trial(
    guarded: GuardedServer, client: Redis, user: str
) -> None:
    assert await rights.lacking(client, NEEDS[user]) == []
    assert guarded.refused() == []
    assert guarded.ask("DBSIZE") == 0


@pytest.mark.parametrize("name", NEEDS)
def test_the_file_gives_no_more_than_is_needed(name: str) -> None:
    assert allowed(name) - BESIDE == verbs(NEEDS[name])


def test_all_that_scripts_and_stores_send_is_on_the_lists() -> None:
    folder = Path(str(tailplane.broker.__file__)).parent
    scripts = "".join(path.read_text() for path in folder.glob("scripts/*.lua"))
    stores = "".join((folder / f"{name}.py").read_text() for name in ("queue", "tasks", "catalogue", "event_log"))
    sent = set(re.findall(r"redis\.p?call\('([A-Z]+)'", scripts)) | set(re.findall(r"[(\[]\"([A-Z]+)\", ", stores))
    assert {name.lower() for name in sent} <= verbs(NEEDS["control-plane"]) | verbs(NEEDS["worker"]) | BESIDE


async def test_each_right_that_is_taken_away_is_named(guarded: GuardedServer, client: Redis, user: str) -> None:
    for verb in sorted(verbs(NEEDS[user])):
        # What a selector gives is no right of the user's own: all of them go.
        guarded.ask("ACL", "SETUSER", user, *(["clearselectors"] if verb == "del" else []), f"-{verb}")
        named = {each.partition(" ")[0] for each in await rights.lacking(client, NEEDS[user])}
        assert named - (SELECTED if verb == "del" else set()) == {verb.upper()}
        guarded.ask("ACL", "LOAD")


async def test_keys_and_channels_that_are_taken_away_are_named(
    guarded: GuardedServer, client: Redis, user: str
) -> None:
    patterns = re.findall(r" ([~&])(\S+)", rules(user).partition("(")[0])
    for sign, _ in patterns:
        left = [f"{kind}{pattern}" for kind, pattern in patterns if kind != sign]
        guarded.ask("ACL", "SETUSER", user, "clearselectors", "resetkeys", "resetchannels", *left)
        lacking = await rights.lacking(client, NEEDS[user])
        assert lacking
        assert any("tailplane:" in each for each in lacking)
        guarded.ask("ACL", "LOAD")


async def test_without_the_means_of_the_trial_nothing_is_tried(
    guarded: GuardedServer, client: Redis, user: str
) -> None:
    for verb in ("multi", "discard"):
        guarded.ask("ACL", "SETUSER", user, f"-{verb}")
        assert await rights.lacking(client, NEEDS[user]) == ["MULTI or DISCARD, by which the other rights are tried"]
        assert guarded.ask("DBSIZE") == 0
        guarded.ask("ACL", "LOAD")


async def test_a_program_says_at_its_start_which_right_is_missing(
    guarded: GuardedServer, client: Redis, user: str
) -> None:
    guarded.ask("ACL", "SETUSER", user, "-xadd", "-hset")
    with pytest.raises(RightsMissing) as caught:
        await wait_until_fit(client, NEEDS[user])
    assert "HSET of tailplane:" in caught.value.detail
    assert "XADD of tailplane:default:stream:{t_probe}" in caught.value.detail
    assert "users.acl" in (caught.value.hint or "")
    assert password_of(user) not in str(caught.value)


FORBIDDEN: list[tuple[str, ...]] = [
    ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "GET", "requirepass"), ("KEYS", "*"),
    ("SCAN", "0"), ("ACL", "LIST"), ("ACL", "SETUSER", "other"), ("SHUTDOWN", "NOSAVE"), ("MONITOR",),
    ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", "1"), ("REPLICAOF", "NO", "ONE"), ("SCRIPT", "FLUSH"),
    ("FUNCTION", "FLUSH"), ("MODULE", "LIST"), ("BGREWRITEAOF",), ("SWAPDB", "0", "1"), ("RENAME", "a", "b"),
    ("MIGRATE", "h", "1", "k", "0", "1"), ("DUMP", "tailplane:a"), ("PSUBSCRIBE", "*"), ("SORT", "tailplane:a"),
    ("HGET", "other:default:task:{t_1}", "state"), ("DEL", "other:default:task:{t_1}"), ("PUBLISH", "other", "x"),
    ("EVAL", "return redis.call('GET', 'other')", "0"), ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("EVAL", "return redis.call('PUBLISH', 'other', 'x')", "0"),
]  # fmt: skip
TO_WORKERS: list[tuple[str, ...]] = [
    ("DEL", "tailplane:{queue}:session:default:s_1"), ("DEL", "tailplane:{queue}:session-tasks:default:s_1"),
    ("HSETNX", "tailplane:{queue}:session:default:s_1", "closed", "0"), ("DEL", "tailplane:default:task:{t_1}"),
    ("DEL", "tailplane:{queue}:workers"), ("DEL", "tailplane:{queue}:tasks:default"),
    ("ZADD", "tailplane:{queue}:gone:default", "0", "t_1"), ("DEL", "tailplane:default:stream:{t_1}"),
    ("ZREVRANGEBYLEX", "tailplane:{queue}:tasks:default", "+", "-"),
    ("HGETALL", "tailplane:{queue}:api-key:k_1"), ("HSET", "tailplane:{queue}:api-key:k_1", "revoked_at", ""),
    ("ZADD", "tailplane:{queue}:api-keys", "0", "default/k_1"),
    ("XADD", "tailplane:{queue}:revoked-tokens", "*", "t", "x"), ("DEL", "tailplane:{queue}:revoked-tokens"),
    ("GET", "tailplane:{queue}:request:default:0123"), ("ZRANGEBYLEX", "tailplane:{queue}:dead:default", "-", "+"),
    ("SUBSCRIBE", "tailplane:default:other"), ("HGETALL", "tailplane:{queue}:tenants"),
    ("HSET", "tailplane:{queue}:tenants", "default", ""), ("HDEL", "tailplane:{queue}:tenants", "default"),
    ("EVAL", "return redis.call('HSET', KEYS[1], 'default', '')", "1", "tailplane:{queue}:tenants"),
    ("EVAL", "return redis.call('DEL', 'tailplane:default:task:{t_1}')", "0"),
]  # fmt: skip


@pytest.mark.parametrize("command", FORBIDDEN, ids=" ".join)
@pytest.mark.parametrize("name", ["control-plane", "worker", "metrics"])
def test_no_program_may_do_what_it_need_not(guarded: GuardedServer, name: str, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError, match=r"no permissions|No permissions|ACL failure|can't"):
        guarded.ask(*command, user=name)


@pytest.mark.parametrize("command", TO_WORKERS, ids=" ".join)
def test_a_worker_may_not_do_what_is_the_control_planes(guarded: GuardedServer, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError, match=r"no permissions|No permissions|ACL failure|can't"):
        guarded.ask(*command, user="worker")


IN_A_CLUSTER: list[tuple[str, tuple[str, ...]]] = [
    ("control-plane", ("SSUBSCRIBE", "tailplane:default:bell:{t_1}")),
    ("control-plane", ("SUNSUBSCRIBE", "tailplane:default:bell:{t_1}")),
    ("control-plane", ("SPUBLISH", "tailplane:default:bell:{t_1}", "")),
    ("worker", ("SPUBLISH", "tailplane:default:bell:{t_1}", "")),
    *((user, command) for user in NEEDS for command in (("CLUSTER", "SLOTS"), ("CLUSTER", "INFO"), ("ASKING",))),
]


@pytest.mark.parametrize(("name", "command"), IN_A_CLUSTER, ids=str)
def test_what_only_a_cluster_asks_for_is_allowed(guarded: GuardedServer, name: str, command: tuple[str, ...]) -> None:
    assert guarded.ask("ACL", "DRYRUN", name, *command) == "OK"


async def test_rights_are_tried_on_a_clusters_server_too() -> None:
    with GuardedServer(find_binary(), is_encrypted=False, cluster_enabled=True) as server:
        server.ask("ACL", "SETUSER", "worker", "-xadd")
        for name, found in (("control-plane", []), ("worker", ["XADD of tailplane:default:stream:{t_probe}"])):
            client = connect(server.url(name), Redis)
            # It has no slots: each command is refused for that, and for the right that is missing before.
            assert await rights.lacking(client, NEEDS[name]) == found
            await client.aclose(close_connection_pool=True)


def test_metrics_may_look_at_the_server_and_at_no_key(guarded: GuardedServer) -> None:
    assert guarded.ask("INFO", "memory", user="metrics")
    with pytest.raises(NoPermissionError):
        guarded.ask("HGETALL", "tailplane:{queue}:workflows", user="metrics")


def test_nobody_comes_in_without_a_name(guarded: GuardedServer) -> None:
    with redis.Redis(port=guarded.port) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


def test_a_user_without_a_password_is_left_out() -> None:
    users = filled_users({"admin": "a", "worker": "w"}, "prod")
    assert [line.split()[1] for line in users.splitlines()] == ["default", "admin", "worker"]
    assert "<" not in users
    assert "tailplane" not in users
    assert "~prod:{queue}:due:*" in users


def test_a_file_without_any_password_is_not_made() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        filled_users({})
    assert not refused.value.stdout
    assert "no user has a password" in refused.value.stderr


def test_an_unfilled_file_is_refused_by_the_server(tmp_path: Path) -> None:
    users = ROOT / "deploy" / "redis" / "users.acl"
    assert {line.split()[1] for line in users.read_text().splitlines()} == {"default", *USERS}
    command = [str(find_binary()), "--port", "0", "--aclfile", str(users), "--dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "Aborting" in ended.stdout


def test_a_replica_follows_with_its_own_user(guarded: GuardedServer) -> None:
    following = {"replicaof": ("127.0.0.1", str(guarded.port)), "masteruser": "replica"}
    with GuardedServer(find_binary(), is_encrypted=False, masterauth=password_of("replica"), **following) as replica:
        until(lambda: replica.ask("ROLE")[3] == "connected", "the replica follows")
    assert [each for each in guarded.refused() if each[0] == "replica"] == []


@pytest.mark.parametrize("user", ["control-plane"], indirect=True)
async def test_a_right_that_goes_is_told_as_such_and_ends_no_background_work(
    guarded: GuardedServer, client: Redis
) -> None:
    broker = Broker.over(client, prefix="tailplane", retention=RETENTION, start_within=START_WITHIN)
    task = TaskRef(new_task_id())
    await broker.tasks.create(NewTask(task, "test", "1", codec.pack(None)))
    hub = Hub(broker)
    running = asyncio.ensure_future(hub.run())
    reader = await hub.open(task, Now())
    guarded.ask("ACL", "SETUSER", "control-plane", "-exists", "-xrange", "-eval", "-evalsha", "resetchannels")
    with capture_logs() as logs:
        # The hub looks at its streams; and a new reader's channel is refused.
        await asyncio.to_thread(until, lambda: ("control-plane", "exists") in guarded.refused(), "the hub looks")
        opening = asyncio.ensure_future(hub.open(TaskRef(new_task_id()), Now()))
        await asyncio.to_thread(until, lambda: any("channel" in str(each) for each in logs), "a channel is refused")
    with pytest.raises(StoreForbidden, match="no right to run EXISTS"):
        await broker.log.exist([task])
    with pytest.raises(StoreForbidden, match="no right to run EVALSHA"):
        await broker.queue.renew(new_worker_id(), RETENTION)
    assert not running.done()
    for each in (opening, running):
        each.cancel()
    await asyncio.gather(opening, running, return_exceptions=True)
    await reader.close()
    guarded.ask("FLUSHALL")
