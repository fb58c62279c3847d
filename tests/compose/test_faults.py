"""Containers are killed, stopped and replaced under load: nothing is lost, and nothing is doubled."""

import time
from collections.abc import Callable

import pytest

from tests.compose.cluster import ROOT, Cluster
from tests.compose.under_load import under_load


def _kill_and_start(cluster: Cluster, service: str) -> Callable[[], None]:
    def disturb() -> None:
        for container in cluster.containers(service):
            cluster.kill(container)
            # Longer than a lease, for a worker: its tasks are in other hands when it is there again.
            time.sleep(6)
            cluster.start(container)
            cluster.wait_until_healthy()

    return disturb


@pytest.mark.parametrize(("service", "seed"), [("worker", 1), ("control-plane", 2), ("load-balancer", 3)])
async def test_a_killed_container_loses_nothing(cluster: Cluster, service: str, seed: int) -> None:
    outcome = await under_load(cluster, seed=seed, tasks=60, seconds=35, disturb=_kill_and_start(cluster, service))
    assert not outcome.broken
    if service == "worker":
        assert outcome.taken_over, "no task was taken over: the load was too small"


@pytest.mark.parametrize(("service", "seed"), [("worker", 4), ("control-plane", 5), ("load-balancer", 6)])
async def test_containers_are_replaced_one_after_another(cluster: Cluster, service: str, seed: int) -> None:
    before = {container.details["Id"] for container in cluster.containers(service)}

    def roll() -> None:
        cluster.run([str(ROOT / "deploy/roll"), service])
        cluster.wait_until_healthy()

    outcome = await under_load(cluster, seed=seed, tasks=60, seconds=35, disturb=roll)
    after = {container.details["Id"] for container in cluster.containers(service)}
    assert len(after) == len(before)
    assert not after & before
    assert not outcome.broken


async def test_all_containers_of_a_service_may_be_replaced_at_once(cluster: Cluster) -> None:
    """As `docker compose up` does after a change. Clients wait meanwhile."""

    def replace() -> None:
        for service in ("control-plane", "worker", "load-balancer"):
            count = len(cluster.containers(service))
            options = ["--force-recreate", "--no-deps", "--scale", f"{service}={count}"]
            cluster.compose("up", "-d", *options, service)
            cluster.wait_until_healthy()

    outcome = await under_load(cluster, seed=7, tasks=60, seconds=35, disturb=replace)
    assert not outcome.broken


async def test_a_restart_of_redis_loses_nothing(cluster: Cluster) -> None:
    def restart() -> None:
        cluster.compose("restart", "redis")
        cluster.wait_until_healthy()

    outcome = await under_load(cluster, seed=8, tasks=40, seconds=20, disturb=restart)
    assert not outcome.broken
