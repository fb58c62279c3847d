"""What the chart makes of each of its examples."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tailplane.broker.settings import DeploymentSettings
from tailplane.control_plane import Settings as ControlPlaneSettings
from tailplane.workers import Settings as WorkerSettings

from .conftest import CHART, Manifest

# The Chart.yaml's oldest, and the newest that kubernetes-validate knows.
VERSIONS = ("1.30", "1.37")
# Kinds that Kubernetes itself does not know.
FOREIGN = {
    "ScaledObject": "keda.sh/v1alpha1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
}


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def programs(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Yield each pod's template and its container."""
    for deployment in of_kind(manifests, "Deployment"):
        template = deployment["spec"]["template"]
        (container,) = template["spec"]["containers"]
        yield template, container


def matches(selector: dict[str, str], template: Manifest) -> bool:
    return bool(selector) and selector.items() <= template["metadata"]["labels"].items()


def variables(container: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


@pytest.fixture(scope="module")
def validate() -> Iterator[Callable[[Manifest, str], str]]:
    """Hold a manifest against a version's schemas, which are read once: they are large."""
    import kubernetes_validate
    from kubernetes_validate import utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield functools.partial(kubernetes_validate.validate, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_each_manifest(
    manifests: list[Manifest], validate: Callable[[Manifest, str], str], version: str
) -> None:
    for manifest in manifests:
        if manifest["kind"] in FOREIGN:
            assert manifest["apiVersion"] == FOREIGN[manifest["kind"]]
        else:
            validate(manifest, version)


def test_the_oldest_version_is_the_charts() -> None:
    import yaml

    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={VERSIONS[0]}.0-0"


def test_names_are_unique_and_short_enough(manifests: list[Manifest]) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, name in names)


def test_a_selector_finds_the_pods_of_one_program_each(manifests: list[Manifest]) -> None:
    templates = [template for template, _ in programs(manifests)]
    for deployment in of_kind(manifests, "Deployment"):
        found = [each for each in templates if matches(deployment["spec"]["selector"]["matchLabels"], each)]
        assert found == [deployment["spec"]["template"]]
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        assert sum(matches(budget["spec"]["selector"]["matchLabels"], each) for each in templates) == 1
    for template in templates:
        for spread in template["spec"]["topologySpreadConstraints"]:
            assert matches(spread["labelSelector"]["matchLabels"], template)


def test_the_service_and_the_routes_lead_to_control_planes(manifests: list[Manifest]) -> None:
    (service,) = of_kind(manifests, "Service")
    (port,) = service["spec"]["ports"]
    found = [each for each in programs(manifests) if matches(service["spec"]["selector"], each[0])]
    assert [container["name"] for _, container in found] == ["control-plane"]
    assert {"name": port["targetPort"], "containerPort": 8420} in found[0][1]["ports"]
    for ingress in of_kind(manifests, "Ingress"):
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": port["name"]}}
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    for route in of_kind(manifests, "HTTPRoute"):
        (rule,) = route["spec"]["rules"]
        assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": port["port"]}]
        assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}


def test_probes_ask_what_the_programs_answer_on_a_port_that_is_open(manifests: list[Manifest]) -> None:
    for _, container in programs(manifests):
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        env = variables(container)
        assert str(ports["metrics"]) == env["TAILPLANE_METRICS_PORT"]
        assert env["TAILPLANE_METRICS_HOST"] == "0.0.0.0"
        if container["name"] == "control-plane":
            assert str(ports["http"]) == env["TAILPLANE_PORT"]
            assert env["TAILPLANE_HOST"] == "0.0.0.0"
        port, live = ("http", "/healthz") if container["name"] == "control-plane" else ("metrics", "/livez")
        for probe, path in (("startupProbe", live), ("livenessProbe", live), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": port}


def test_a_pod_has_more_time_than_its_program_takes_to_stop(manifests: list[Manifest]) -> None:
    for template, container in programs(manifests):
        grace = template["spec"]["terminationGracePeriodSeconds"]
        drain = int(variables(container)["TAILPLANE_DRAIN_GRACE"].removesuffix("s"))
        lag = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        # What a worker needs after its drain: unwinding, handing back, the last grace of code that does not let go.
        assert grace >= lag + drain + 5
        # Requests still come while the endpoints are taken back; nobody sends any to a worker.
        assert (lag > 0) == (container["name"] == "control-plane")


def test_the_default_drains_are_the_programs(manifests: list[Manifest]) -> None:
    import yaml

    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for part, settings in (("controlPlane", ControlPlaneSettings), ("workerDefaults", WorkerSettings)):
        assert defaults[part]["drainGrace"] == settings.model_fields["drain_grace"].default.total_seconds()


def test_what_the_chart_sets_are_settings(manifests: list[Manifest]) -> None:
    for _, container in programs(manifests):
        settings: type[DeploymentSettings] = (
            ControlPlaneSettings if container["name"] == "control-plane" else WorkerSettings
        )
        known = {f"TAILPLANE_{name.upper()}" for name in settings.model_fields}
        given = {name for name in variables(container) if name.startswith("TAILPLANE_")}
        assert given <= known
        assert len(container["env"]) == len(variables(container))


def test_no_pod_may_do_more_than_it_needs(manifests: list[Manifest]) -> None:
    for template, container in programs(manifests):
        assert template["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        # Its token is mounted only where the account is the user's own.
        is_own = template["spec"]["serviceAccountName"] == "demo-tailplane"
        assert template["spec"]["automountServiceAccountToken"] is not is_own
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        assert {each["name"] for each in container["volumeMounts"]} <= {
            each["name"] for each in template["spec"]["volumes"]
        }


def test_urls_come_from_secrets_and_no_secret_is_made(manifests: list[Manifest], values: dict[str, Any]) -> None:
    assert not of_kind(manifests, "Secret")
    for _, container in programs(manifests):
        key = "controlPlaneKey" if container["name"] == "control-plane" else "workerKey"
        url = variables(container)["TAILPLANE_REDIS_URL"]
        assert url["secretKeyRef"] == {"name": "tailplane-redis", "key": values["redis"].get(key, "url")}
    assert not re.search(r"rediss?://", str(manifests))


def test_images_are_those_of_the_values_and_pinned(manifests: list[Manifest]) -> None:
    for _, container in programs(manifests):
        assert container["image"].startswith("registry.example.com/")
        assert re.search(r":[\w.-]+$|@sha256:[0-9a-f]{64}$", container["image"])
        assert not container["image"].endswith(":latest")


def test_a_budget_never_keeps_a_node_from_being_drained(manifests: list[Manifest]) -> None:
    assert len(of_kind(manifests, "PodDisruptionBudget")) == len(of_kind(manifests, "Deployment"))
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        # A percentage is rounded up: also of one replica at least one may go.
        assert budget["spec"]["maxUnavailable"] not in (0, "0%")
        assert "minAvailable" not in budget["spec"]


def test_replicas_are_left_to_whoever_scales(manifests: list[Manifest]) -> None:
    scaled = [
        each["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for each in of_kind(manifests, kind)
    ]
    assert len(set(scaled)) == len(scaled)
    for deployment in of_kind(manifests, "Deployment"):
        assert ("replicas" in deployment["spec"]) != (deployment["metadata"]["name"] in scaled)


def test_each_pod_has_one_policy_and_workers_are_reached_for_their_metrics_only(manifests: list[Manifest]) -> None:
    policies = [each["spec"] for each in of_kind(manifests, "NetworkPolicy") if "Egress" in each["spec"]["policyTypes"]]
    for template, container in programs(manifests):
        (policy,) = [each for each in policies if matches(each["podSelector"]["matchLabels"], template)]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        reached = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        opened = {port["containerPort"] for port in container["ports"]}
        assert reached == opened == ({8420, 9464} if container["name"] == "control-plane" else {9464})
        # A rule without ports would open all of them.
        assert all(rule["ports"] for rule in (*policy["ingress"], *policy["egress"]))
        left = {port["port"] for rule in policy["egress"][:2] for port in rule["ports"]}
        assert {53, 6379} <= left <= {53, 6379, 26379}
