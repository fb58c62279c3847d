"""Two control planes that demand API keys: both notice a change, every command signs, and no log has a secret."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailplane.client import (
    CredentialExpired,
    Forbidden,
    KeyNotFound,
    LastAdmin,
    SyncClient,
    TaskNotFound,
    Unauthenticated,
)
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id

from .conftest import WORKFLOWS

pytestmark = [pytest.mark.process, pytest.mark.slow]

ADMIN = ApiKey.draw(new_key_id())
# Seconds within which all control planes must have noticed a change.
NOTICED = 2.0

Tailplane = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target=str(WORKFLOWS), control_planes=2, api_key=ADMIN.text)) as running:
        yield running


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[SyncClient]:
    with SyncClient(cluster.url, api_key=ADMIN.text) as client:
        yield client


@pytest.fixture
def tailplane(cluster: LocalCluster, tmp_path: Path) -> Tailplane:
    """Run a command with an API key in its environment."""

    def run(*arguments: str, key: str = ADMIN.text, **env: str) -> "subprocess.CompletedProcess[str]":
        ours = {"TAILPLANE_URL": cluster.url, "TAILPLANE_REDIS_URL": cluster.redis_url, "TAILPLANE_API_KEY": key}
        return subprocess.run(
            [sys.executable, "-P", "-m", "tailplane.deploy", *arguments],
            cwd=tmp_path,
            env=os.environ | ours | env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


def knows(url: str, key: str) -> bool:
    with SyncClient(url, api_key=key) as client:
        try:
            client.whoami()
        except Unauthenticated:
            return False
        return True


def until_all_say(cluster: LocalCluster, key: str, wanted: bool) -> float:
    """Return after how many seconds all control planes said so of a key."""
    began = time.monotonic()
    waiting = set(cluster.urls)
    while waiting:
        waiting -= {url for url in waiting if knows(url, key) is wanted}
        assert time.monotonic() - began < 30, f"{waiting} did not notice"
    return time.monotonic() - began


def test_a_change_is_noticed_by_all_control_planes(cluster: LocalCluster, admin: SyncClient) -> None:
    made = admin.create_key("app", ["read"])
    # Nobody has asked for it before: it is good at once.
    assert all(knows(url, made.key) for url in cluster.urls)
    rotated = admin.rotate_key(made.key_id, grace=0)
    assert all(knows(url, rotated.key) for url in cluster.urls)
    assert until_all_say(cluster, made.key, False) < NOTICED
    admin.revoke_key(made.key_id)
    assert until_all_say(cluster, rotated.key, False) < NOTICED


def test_what_the_client_gets(cluster: LocalCluster, admin: SyncClient) -> None:
    made = admin.create_key("app", {"submit"}, expires_in=3600, max_readers=3)
    assert made.key not in repr(made)
    assert admin.key(made.key_id).name == "app"
    assert {each.key_id for each in list(admin.keys())} >= {made.key_id, ADMIN.key_id}
    assert admin.whoami().name == "TAILPLANE_ADMIN_KEY"
    with SyncClient(cluster.url, api_key=made.key) as client:
        said = client.whoami()
        assert (said.tenant, said.scopes, said.max_readers) == ("default", ["submit"], 3)
        with pytest.raises(Forbidden):
            client.create_key("more", ["admin"])
        with pytest.raises(Forbidden):
            list(client.tasks())
        task = client.run_workflow("count", {"n": 1})
    with pytest.raises(KeyNotFound):
        admin.key(new_key_id())
    with pytest.raises(LastAdmin):
        admin.revoke_key(ADMIN.key_id)
    assert admin.task(task.task_id).status().task_id == task.task_id


def test_every_command_signs_with_the_key_of_its_environment(tailplane: Tailplane) -> None:
    done = tailplane("run", "count", '{"n": 2}', "--follow", "--json")
    assert done.returncode == 0, done.stderr
    task_id = re.search(r"t_[0-9a-z]{26}", tailplane("run", "count", '{"n": 2}').stdout)
    assert task_id is not None
    commands = [
        ("tail", task_id[0]),
        ("ps",),
        ("tasks", "--help"),
        ("dead-letters",),
        ("schedules",),
        ("workflows",),
        ("workers",),
        ("top", "--once"),
        ("top", "--json"),
        ("keys",),
        ("keys", "--direct"),
        ("tenants",),
        ("whoami",),
        ("doctor",),
        ("reconcile", "--dry-run"),
    ]
    for command in commands:
        done = tailplane(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert ADMIN.secret not in done.stdout + done.stderr
    late = tailplane("cancel", task_id[0])
    assert "it had succeeded before" in late.stdout + late.stderr


def test_a_command_without_a_good_key_says_what_to_do(tailplane: Tailplane) -> None:
    for command in (("ps",), ("run", "count"), ("top", "--json"), ("keys",), ("tail", f"t_{'0' * 26}")):
        none = tailplane(*command, key="")
        assert none.returncode == 1
        assert "set TAILPLANE_API_KEY" in none.stderr, none.stderr
        other = tailplane(*command, key=ApiKey.draw(new_key_id()).text)
        assert other.returncode == 1
        assert "does not take the key in TAILPLANE_API_KEY: is it another deployment's" in other.stderr, other.stderr
        assert "Traceback" not in none.stderr + other.stderr
    broken = tailplane("ps", key="tp_not\na-key")
    assert (broken.returncode, "not\na-key" in broken.stderr) == (2, False), broken.stderr


def test_a_command_beyond_a_limit_says_when_to_come_again(tailplane: Tailplane) -> None:
    made = tailplane("keys", "create", "--name", "rare", "--submits-per-second", "0.01")
    first, second = (tailplane("run", "count", '{"n": 2}', key=made.stdout.strip()) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert second.returncode == 1
    assert "error: the API key may submit at most 0.01 a second, and 1 at once\n" in second.stderr
    assert re.search(r"hint:  come again in \d+ min; `tailplane limits` says", second.stderr)


def test_keys_at_the_command_line(tailplane: Tailplane, cluster: LocalCluster) -> None:
    made = tailplane("keys", "create", "--name", "app", "--scopes", "read,cancel", "--expires-in", "90d")
    assert made.returncode == 0, made.stderr
    key = ApiKey.parse(made.stdout.strip())
    assert "it can't be printed again" in made.stderr
    assert key.key_id in tailplane("keys").stdout
    short = tailplane("top", "--json", key=key.text)
    assert (short.returncode, "`tailplane whoami`" in short.stderr) == (1, True)
    assert f"{key.key_id} (app), tenant default: cancel, read, until 20" in tailplane("whoami", key=key.text).stdout
    doctor = tailplane("doctor", key=key.text)
    assert "not looked at: that takes a key with the scope admin" in doctor.stdout
    rotated = json.loads(tailplane("keys", "rotate", key.key_id, "--grace", "0", "--json").stdout)
    assert rotated["key_id"] == key.key_id
    assert knows(cluster.url, rotated["key"])
    assert tailplane("keys", "revoke", key.key_id).stdout == f"{key.key_id} is revoked\n"
    assert "revoked" in tailplane("keys").stdout
    ended = tailplane("keys", "rotate", key.key_id)
    assert (ended.returncode, "revoked or has expired" in ended.stderr) == (1, True)
    assert tailplane("keys", "create", "--name", "app", "--scopes", "write").returncode == 2
    assert tailplane("keys", "list", "--tenant", "acme").returncode == 2


def test_the_operator_manages_all_tenants(tailplane: Tailplane, cluster: LocalCluster) -> None:
    made = tailplane("keys", "create", "--name", "first", "--scopes", "admin", "--direct", "--tenant", "acme", key="")
    assert made.returncode == 0, made.stderr
    key = ApiKey.parse(made.stdout.strip())
    with SyncClient(cluster.urls[1], api_key=key.text) as acme:
        assert acme.whoami().tenant == "acme"
        assert [each.key_id for each in list(acme.keys())] == [key.key_id]
        with pytest.raises(KeyNotFound):
            acme.revoke_key(ADMIN.key_id)
        task = acme.run_workflow("count", {"n": 1})
        task.result(timeout=60)
    with SyncClient(cluster.url, api_key=ADMIN.text) as ours, pytest.raises(TaskNotFound):
        ours.task(task.task_id).status()
    assert {ADMIN.key_id, key.key_id} <= set(re.findall(r"k_[0-9a-z]{26}", tailplane("keys", "--direct").stdout))
    listed = tailplane("keys", "--direct", "--tenant", "acme").stdout
    assert re.findall(r"k_[0-9a-z]{26}", listed) == [key.key_id]
    assert tailplane("tenants", "set", "acme", "--weight", "3", "--max-readers", "9").returncode == 0
    assert tailplane("tenants", "set", "acme", "--max-running", "5", "--max-readers", "none").returncode == 0
    by_name = {each["tenant"]: each for each in json.loads(tailplane("tenants", "--json").stdout)["tenants"]}
    assert set(by_name) >= {"acme", "default"}
    limits = {name: by_name["acme"].get(name) for name in ("weight", "max_running", "max_readers")}
    assert limits == {"weight": 3, "max_running": 5, "max_readers": None}
    assert tailplane("tenants", "set", "acme", "--max-running", "0").returncode == 2
    rotated = tailplane("keys", "rotate", key.key_id, "--direct", "--grace", "0", key="")
    assert all(knows(url, rotated.stdout.strip()) for url in cluster.urls)
    # The last admin's, too.
    assert tailplane("keys", "revoke", key.key_id, "--direct", key="").returncode == 0
    assert until_all_say(cluster, rotated.stdout.strip(), False) < NOTICED


def test_a_key_is_generated_without_anybody_there(tailplane: Tailplane) -> None:
    nowhere = "redis://127.0.0.1:1"
    made = {
        tailplane("keys", "generate", key="", TAILPLANE_REDIS_URL=nowhere, TAILPLANE_URL="http://127.0.0.1:1").stdout
        for _ in range(2)
    }
    assert len({ApiKey.parse(text.strip()).key_id for text in made}) == 2


def test_a_key_that_has_expired_says_so(cluster: LocalCluster, admin: SyncClient) -> None:
    made = admin.create_key("short", ["read"], expires_in=1)
    deadline = time.monotonic() + 30
    with SyncClient(cluster.url, api_key=made.key) as client, pytest.raises(CredentialExpired):
        while time.monotonic() < deadline:
            client.whoami()


def test_no_log_has_a_secret_and_each_change_is_told(cluster: LocalCluster, admin: SyncClient) -> None:
    made = admin.create_key("audited", ["read"])
    admin.revoke_key(made.key_id)
    logs = "".join(path.read_text() for path in cluster.log_dir.iterdir())
    for what in ("API key created", "API key revoked"):
        assert any(
            what in line and made.key_id in line and ADMIN.key_id in line and "audited" in line
            for line in logs.splitlines()
        ), what
    for secret in (ADMIN.secret, ApiKey.parse(made.key).secret):
        assert secret not in logs
