"""Alerts, scrapes and the dashboard: what they ask for is what the programs tell, and Prometheus' own tool agrees."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from tailplane.broker.exposition import Row, Table, registry_of
from tailplane.control_plane.metrics import ROWS as CONTROL_PLANE
from tailplane.workers.metrics import ROWS as WORKER

ROOT = Path(__file__).parents[4]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
RUNBOOKS = ROOT / "docs" / "operations.md"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "tailplane.json"
# Seconds. promtool needs a fraction of one.
DEADLINE = 60


def samples() -> set[str]:
    """Return the names of all samples that the two programs can serve."""
    found: set[str] = set()
    for program, rows in (("control-plane", CONTROL_PLANE), ("worker", WORKER)):
        registry: CollectorRegistry = registry_of(program, Table(rows, lambda: None))
        found |= {sample.name for family in registry.collect() for sample in family.samples}
        found |= {name for row in rows for name in names_of(row)}
    return found


def names_of(row: Row[Any]) -> list[str]:
    return [f"{row.name}_{part}" for part in ("bucket", "sum", "count")] if row.kind == "histogram" else [row.name]


def expressions() -> list[tuple[str, str]]:
    """Return every expression of rules and dashboard, with where it is."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    found = [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", ())]
    found += [(each["name"], each["definition"]) for each in dashboard["templating"]["list"] if "definition" in each]
    return found


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:tailplane|process|python)_\w+", expression))


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_what_is_asked_for_is_told(where: str, expression: str) -> None:
    assert named(expression)
    assert named(expression) <= samples(), where


def test_the_dashboard_shows_every_metric() -> None:
    shown = set().union(*(named(expression) for _, expression in expressions()))
    for row in (*CONTROL_PLANE, *WORKER):
        assert shown & set(names_of(row)), row.name


def test_panels_do_not_overlap_and_ask_the_chosen_prometheus() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(set(places)) == len(places)
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"


def test_each_alert_has_a_runbook_and_says_where() -> None:
    runbooks = set(re.findall(r"^### (tailplane-[a-z-]+)$", RUNBOOKS.read_text(), re.MULTILINE))
    headings = set(re.findall(r"^### (\S+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            kebab = re.sub(r"(?<!^)([A-Z])", r"-\1", rule["alert"]).lower()
            assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{kebab}"
            assert kebab in runbooks
            assert kebab in headings
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "deploy/prometheus/rules.yml"),
        # The token's file is there in the container only.
        ("check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml"),
        ("test", "rules", "tests/unit/deploy/prometheus/rules_test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_it(arguments: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: apt-get install prometheus")
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        ("promtool", *arguments), check=False, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
