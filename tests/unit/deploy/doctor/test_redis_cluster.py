"""What `doctor` says of the cluster that has the streams."""

import dataclasses

import pytest

from tailplane.broker.fitness import Facts
from tailplane.broker.slots import SLOTS
from tailplane.deploy.doctor import Verdict
from tailplane.deploy.doctor.redis_cluster import Node, check_cluster, judge_node, judge_replicas, judge_slots
from tests.redis_cluster import RedisCluster

FIT = Facts({"redis_version": "7.2.0", "maxmemory_policy": "noeviction", "aof_enabled": 1, "role": "slave"}, "")
WHOLE = [Node("a:1", 1, FIT), Node("b:1", 1, FIT), Node("c:1", None, FIT), Node("d:1", None, FIT)]


def test_a_real_cluster_is_looked_at_node_by_node(redis_cluster: RedisCluster) -> None:
    findings = {finding.check: finding for finding in check_cluster(redis_cluster.url)}
    assert findings["streams"].verdict is Verdict.OK
    assert "3 shards" in findings["streams"].detail
    assert findings["streams replicas"].verdict is Verdict.OK
    # Each of the six says so, and nothing else.
    assert set(findings) == {"streams", "streams replicas", "redis persistence (streams)"}


def test_nodes_that_may_drop_streams_or_stop_with_others_are_named(redis_cluster: RedisCluster) -> None:
    node = redis_cluster.nodes[-1]
    redis_cluster.ask(node, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis_cluster.ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "yes")
    try:
        findings = {finding.check: finding for finding in check_cluster(redis_cluster.url)}
    finally:
        redis_cluster.ask(node, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        redis_cluster.ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    assert findings["redis eviction (streams)"].verdict is Verdict.FAILURE
    assert str(node.port) in findings["redis eviction (streams)"].detail
    assert findings["streams coverage"].verdict is Verdict.WARNING


def test_a_cluster_that_is_away_is_a_failure_that_shows_no_password() -> None:
    (finding,) = check_cluster("redis+cluster://app:hunter2@127.0.0.1:1")
    assert finding.verdict is Verdict.FAILURE
    assert "hunter2" not in str(finding)


def test_a_slot_without_a_server_is_a_failure() -> None:
    assert judge_slots("x", SLOTS, WHOLE).verdict is Verdict.OK
    assert "2 slots" in judge_slots("x", SLOTS - 2, WHOLE).detail
    silent = [dataclasses.replace(WHOLE[0], facts=None), *WHOLE[1:]]
    assert judge_slots("x", SLOTS, silent).verdict is Verdict.FAILURE


@pytest.mark.parametrize("changed", [Node("a:1", 0, FIT), Node("c:1", None, None)])
def test_a_shard_without_a_replica_is_a_warning(changed: Node) -> None:
    assert judge_replicas(WHOLE).verdict is Verdict.OK
    assert judge_replicas([changed, *WHOLE[1:]]).verdict is Verdict.WARNING


def test_a_replica_is_judged_by_what_it_would_be_as_a_primary() -> None:
    assert list(judge_node(WHOLE[2])) == []
    old = Facts({**FIT.info, "redis_version": "6.2.0"}, "")
    (finding,) = judge_node(Node("c:1", None, old))
    assert finding.verdict is Verdict.FAILURE
