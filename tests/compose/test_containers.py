"""How containers begin and end, and what they may do."""

import asyncio
import subprocess

import pytest

from tailplane.client import Client
from tests.compose.cluster import ROOT, Cluster

_PROGRAMS = ("control-plane", "worker", "load-balancer")


@pytest.mark.parametrize("service", ["worker", "control-plane", "load-balancer", "redis"])
def test_a_container_ends_well_when_it_is_told_to(cluster: Cluster, service: str) -> None:
    container = cluster.containers(service)[0]
    cluster.run(["docker", "stop", container.name])
    code = next(one.exit_code for one in cluster.containers(service) if one.name == container.name)
    cluster.start(container)
    cluster.wait_until_healthy()
    # 137 would be that it was killed after its grace.
    assert code == 0


@pytest.mark.parametrize("service", _PROGRAMS)
def test_a_program_is_not_root_and_writes_nowhere_but_to_tmp(cluster: Cluster, service: str) -> None:
    for container in cluster.containers(service):
        inside = ["docker", "exec", container.name, "sh", "-c"]
        assert cluster.run([*inside, "id -u"]).strip() not in ("", "0")
        assert cluster.run([*inside, "touch /tmp/mine && rm /tmp/mine && echo done"]).strip() == "done"
        for folder in ("/", "/etc", "/workflows", "/opt"):
            if cluster.run([*inside, f"test -d {folder} && echo there || true"]).strip():
                assert subprocess.run([*inside, f"touch {folder}/x"], capture_output=True, check=False).returncode != 0


def test_redis_is_reached_by_nobody_outside(cluster: Cluster) -> None:
    redis = cluster.containers("redis")[0].details["NetworkSettings"]
    assert not any(redis["Ports"].values())
    assert list(redis["Networks"]) == [f"{cluster.project}_store"]


def test_workflows_that_can_t_be_imported_are_named_in_the_log(cluster: Cluster) -> None:
    image = cluster.containers("worker")[0].details["Config"]["Image"]
    for target, expected in {"tests/compose/broken.py": "ZeroDivisionError", "none.py": "there is no file"}.items():
        run = ["docker", "run", "--rm", "-v", f"{ROOT}:/workflows:ro", image, target]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert expected in done.stderr
        assert target in done.stderr


async def test_an_image_of_one_s_own_has_its_workflows_built_in(cluster: Cluster) -> None:
    image = f"{cluster.project}-own"
    cluster.run(["docker", "build", "-q", "-t", image, str(ROOT / "examples/own_image")])
    network = ["--network", f"{cluster.project}_store"]
    variables = ["-e", "TAILPLANE_REDIS_URL=redis://redis:6379/0", "-e", "TAILPLANE_METRICS_TOKEN=none"]
    container = cluster.run(["docker", "run", "-d", "--read-only", *network, *variables, image]).strip()
    try:
        async with Client(cluster.url) as client, asyncio.timeout(60):
            while "count_down" not in {one.name for one in await client.workflows()}:
                await asyncio.sleep(0.2)
            task = await client.run_workflow("count_down", 3)
            assert [number async for number in task.results()] == [3, 2, 1]
            assert await task.result() == "lift-off"
    finally:
        cluster.run(["docker", "rm", "-f", container])
        cluster.run(["docker", "rmi", image])
