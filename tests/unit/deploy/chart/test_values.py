"""What values do that are given, and which are refused."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import CHART, Manifest, Refused, Render
from .test_manifests import of_kind, programs, variables

LEAST: dict[str, Any] = {
    "redis": {"existingSecret": "tailplane-redis"},
    "auth": {"existingSecret": "tailplane-admin"},
    "controlPlane": {"image": {"repository": "registry.example.com/control-plane"}},
    "workers": [{"name": "chat", "target": "flows.py", "image": {"repository": "registry.example.com/flows"}}],
}


def with_values(path: str, value: Any) -> dict[str, Any]:
    """Return the least values with one more; a number in the path is a place in a list."""
    values = copy.deepcopy(LEAST)
    node: Any = values
    *way, last = path.split(".")
    for step in way:
        node = node[int(step)] if step.isdigit() else node.setdefault(step, {})
    node[last] = value
    return values


def worker(manifests: list[Manifest], group: str) -> Manifest:
    (found,) = [
        each
        for each in of_kind(manifests, "Deployment")
        if each["spec"]["template"]["metadata"]["labels"].get("tailplane/group") == group
    ]
    return found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("redis.existingSecret", "", "redis.existingSecret: name a Secret"),
        ("redis.existingSecret", "redis://user:hunter2@host/0", "this is the name of a Secret"),
        ("streams.existingSecret", "redis+cluster://user:hunter2@host", "this is the name of a Secret"),
        ("auth.existingSecret", "", "auth.existingSecret: name a Secret that holds the first API key"),
        ("auth.existingSecret", "tp_hunter2", "this is the name of a Secret"),
        ("auth.mode", "some", "/auth/mode"),
        ("monitoring.tokenSecret", "Hunter2_hunter2", "this is the name of a Secret"),
        ("settings.TAILPLANE_AUTH", "none", "invalid propertyName 'TAILPLANE_AUTH'"),
        ("controlPlane.settings.TAILPLANE_ADMIN_KEY", "tp_hunter2", "invalid propertyName 'TAILPLANE_ADMIN_KEY'"),
        ("settings.TAILPLANE_METRICS_TOKEN", "hunter2", "invalid propertyName 'TAILPLANE_METRICS_TOKEN'"),
        ("redis.url", "redis://host", "additional properties 'url' not allowed"),
        ("controlPlane.image.repository", "", "controlPlane.image.repository: name the image"),
        ("controlPlane.image.tag", "latest", "/controlPlane/image/tag"),
        ("controlPlane.replicas", "three", "got string, want integer"),
        ("controlPlane.drainGrace", 0, "/controlPlane/drainGrace"),
        ("controlPlane.terminationGracePeriodSeconds", 5, "not allowed"),
        ("controlPlane.autoscaling", {"enabled": True, "minReplicas": 20}, "minReplicas is above maxReplicas"),
        ("settings.TAILPLANE_REDIS_URL", "redis://host", "invalid propertyName 'TAILPLANE_REDIS_URL'"),
        ("settings.TAILPLANE_DRAIN_DELAY", "1m", "invalid propertyName 'TAILPLANE_DRAIN_DELAY'"),
        ("settings.TAILPLANE_DRAIN_GRACE", "1h", "invalid propertyName 'TAILPLANE_DRAIN_GRACE'"),
        ("settings.retention", "1h", "invalid propertyName 'retention'"),
        ("ingress.enabled", True, "ingress.host"),
        ("httpRoute.enabled", True, "httpRoute.parentRefs"),
        ("workers.0.name", "Chat", "/workers/0/name"),
        ("workers.0.image.repository", "", "workers[chat].image.repository"),
        ("workers.0.target", "", "workers[chat].target"),
        ("workers.0.image.tag", "latest", "/workers/0/image/tag"),
        ("workers.0.concurency", 3, "additional properties 'concurency' not allowed"),
        ("workers.0.autoscaling", {"kind": "keda"}, "workers[chat].workflows"),
        ("podDisruptionBudget.maxUnavailable", 0, "/podDisruptionBudget/maxUnavailable"),
        ("podDisruptionBudget.maxUnavailable", "0%", "/podDisruptionBudget/maxUnavailable"),
        ("networkPolicy.redisPorts", [], "/networkPolicy/redisPorts"),
        ("replicas", 3, "additional properties 'replicas' not allowed"),
    ],
)
def test_nonsense_is_refused_by_name(render: Render, path: str, value: Any, said: str) -> None:
    assert render(LEAST)
    with pytest.raises(Refused) as refused:
        render(with_values(path, value))
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"kind": "keda"}, "prometheusAddress"),
        ({"kind": "hpa", "minReplicas": 0}, "only KEDA scales to 0"),
        ({"kind": "hpa", "minReplicas": 9, "maxReplicas": 8}, "minReplicas is above maxReplicas"),
    ],
)
def test_autoscaling_that_can_not_work_is_refused(render: Render, scaling: dict[str, Any], said: str) -> None:
    values = with_values("workers.0.autoscaling", scaling)
    values["workers"][0]["workflows"] = ["answer"]
    with pytest.raises(Refused, match=re.escape(said)):
        render(values)


def test_two_groups_of_one_name_are_refused(render: Render) -> None:
    with pytest.raises(Refused, match="two groups"):
        render(LEAST | {"workers": LEAST["workers"] * 2})


def test_a_group_takes_from_the_defaults_what_it_leaves_out(render: Render) -> None:
    values = LEAST | {
        "settings": {"TAILPLANE_RETENTION": "12h", "TAILPLANE_CONCURRENCY": 5},
        "workerDefaults": {"replicas": 3, "drainGrace": 60, "image": {"repository": "flows", "tag": "1"}},
        "workers": [
            {"name": "chat", "target": "chat"},
            {"name": "batch", "target": "batch", "replicas": 1, "settings": {"TAILPLANE_CONCURRENCY": 1000000},
             "image": {"tag": "2"}, "resources": {"limits": {"cpu": 4}}},
        ],
    }  # fmt: skip
    manifests = render(values)
    chat, batch = worker(manifests, "chat"), worker(manifests, "batch")
    assert (chat["spec"]["replicas"], batch["spec"]["replicas"]) == (3, 1)
    ((_, chats), (_, batches)) = programs([chat, batch])
    assert (chats["image"], batches["image"]) == ("flows:1", "flows:2")
    assert batches["resources"] == {"limits": {"cpu": 4}}
    assert variables(chats)["TAILPLANE_CONCURRENCY"] == "5"
    assert variables(batches)["TAILPLANE_CONCURRENCY"] == "1000000"
    assert variables(batches)["TAILPLANE_RETENTION"] == "12h"
    assert variables(batches)["TAILPLANE_DRAIN_GRACE"] == "60s"
    assert (chats["command"], batches["command"]) == (["tailplane", "worker", "chat"], ["tailplane", "worker", "batch"])


def test_a_groups_own_egress_is_no_other_groups(render: Render) -> None:
    https = [{"ports": [{"protocol": "TCP", "port": 443}]}]
    values = LEAST | {"workers": [LEAST["workers"][0], LEAST["workers"][0] | {"name": "agents", "egress": https}]}
    rules = {each["metadata"]["name"]: each["spec"]["egress"] for each in of_kind(render(values), "NetworkPolicy")}
    assert rules["demo-tailplane-worker-agents"] == rules["demo-tailplane-worker-chat"] + https
    assert all(https[0] not in rule for name, rule in rules.items() if not name.endswith("agents"))


def test_redis_is_reached_by_both_programs_and_those_named(render: Render) -> None:
    exporter = {"podSelector": {"matchLabels": {"app": "exporter"}}}
    values = with_values("networkPolicy", {"redisPods": {"app": "redis"}, "redisAlsoFrom": [exporter]})
    manifests = render(values)
    (policy,) = [each for each in of_kind(manifests, "NetworkPolicy") if each["metadata"]["name"].endswith("-redis")]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app": "redis"}
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"][-1] == exporter
    for template, _ in programs(manifests):
        assert any(
            peer["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            for peer in rule["from"]
        )


def test_keda_asks_for_the_age_of_the_groups_queues(render: Render) -> None:
    values = with_values("workers.0.autoscaling", {"kind": "keda", "prometheusAddress": "http://prometheus:9090"})
    values["workers"][0]["workflows"] = ["answer", "sum.up"]
    (scaled,) = of_kind(render(values), "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"] == {"name": "demo-tailplane-worker-chat"}
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metricType"] == "Value"
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": 'max(tailplane_queue_oldest_age_seconds{workflow=~"answer|sum\\\\.up"})',
        "threshold": "5",
        "ignoreNullValues": "false",
    }


def test_the_operators_alerts_are_the_one_file(render: Render) -> None:
    import yaml

    values = with_values("monitoring", {"prometheusRule": True, "podMonitor": True, "labels": {"release": "prom"}})
    manifests = render(values)
    (rules,) = of_kind(manifests, "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((CHART.parents[1] / "prometheus" / "rules.yml").read_text())
    (monitor,) = of_kind(manifests, "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for template, container in programs(manifests):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_control_planes_alone_get_the_first_key(render: Render) -> None:
    for template, container in programs(render(LEAST)):
        env = variables(container)
        if template["metadata"]["labels"]["app.kubernetes.io/component"] == "control-plane":
            assert env["TAILPLANE_AUTH"] == "keys"
            assert env["TAILPLANE_ADMIN_KEY"]["secretKeyRef"] == {"name": "tailplane-admin", "key": "admin-key"}
        else:
            assert env.keys().isdisjoint({"TAILPLANE_AUTH", "TAILPLANE_ADMIN_KEY"})


def test_who_wants_no_keys_has_to_say_so(render: Render) -> None:
    manifests = render(with_values("auth", {"mode": "none"}))
    (env,) = [variables(each) for _, each in programs(manifests) if each["name"] == "control-plane"]
    assert env["TAILPLANE_AUTH"] == "none"
    assert "TAILPLANE_ADMIN_KEY" not in env


def test_metrics_have_the_token_of_the_secret_and_the_monitor_brings_it(render: Render) -> None:
    values = with_values("monitoring", {"podMonitor": True, "tokenSecret": "tailplane-metrics"})
    manifests = render(values)
    secret = {"name": "tailplane-metrics", "key": "token"}
    for _, container in programs(manifests):
        assert variables(container)["TAILPLANE_METRICS_TOKEN"]["secretKeyRef"] == secret
    (monitor,) = of_kind(manifests, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": secret}
    for _, container in programs(render(LEAST)):
        assert variables(container)["TAILPLANE_METRICS_TOKEN"] == "none"


def test_the_notes_say_how_one_signs_in(render_files: Callable[[dict[str, Any]], dict[str, str]]) -> None:
    notes = render_files(LEAST)["tailplane/templates/NOTES.txt"]
    assert "get secret tailplane-admin -o jsonpath='{.data.admin-key}'" in notes
    assert "monitoring.tokenSecret demands a token" in notes
    assert "Nobody has to sign in" not in notes
    guarded = with_values("monitoring", {"tokenSecret": "tailplane-metrics"}) | {"auth": {"mode": "none"}}
    notes = render_files(guarded)["tailplane/templates/NOTES.txt"]
    assert "Nobody has to sign in" in notes
    assert "demands a token" not in notes


def test_the_notes_say_what_is_missing(render_files: Callable[[dict[str, Any]], dict[str, str]]) -> None:
    assert "There are no workers" in render_files(LEAST | {"workers": []})["tailplane/templates/NOTES.txt"]
    assert "There are no workers" not in render_files(LEAST)["tailplane/templates/NOTES.txt"]


def _leaves(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict) and node and not path.endswith((".resources", ".annotations")):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


def test_the_readme_has_each_value_once() -> None:
    import yaml

    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    named = re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    assert named == list(_leaves(defaults))
