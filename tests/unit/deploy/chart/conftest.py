"""The chart, rendered by Helm itself."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Manifest = dict[str, Any]
Render = Callable[[dict[str, Any]], list[Manifest]]

CHART = Path(__file__).parents[4] / "deploy" / "helm" / "tailplane"
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))


class Refused(Exception):
    """Helm does not render these values."""


@pytest.fixture(scope="session")
def render_files() -> Iterator[Callable[[dict[str, Any]], dict[str, str]]]:
    """Render values into the templates' output, by template."""
    if any(importlib.util.find_spec(name) is None for name in ("helm_python", "kubernetes_validate")):
        if os.environ.get("CI") == "true":
            pytest.fail("helm-python-sdk and kubernetes-validate are not installed")
        pytest.skip("helm-python-sdk has no wheel for this machine")
    command = [sys.executable, str(Path(__file__).with_name("renderer.py")), str(CHART)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as helm:
        assert helm.stdin is not None
        assert helm.stdout is not None

        def render(values: dict[str, Any]) -> dict[str, str]:
            assert helm.stdin is not None
            assert helm.stdout is not None
            helm.stdin.write(json.dumps({"values": values, "name": "demo"}) + "\n")
            helm.stdin.flush()
            answer = json.loads(helm.stdout.readline())
            if "error" in answer:
                raise Refused(answer["error"])
            return dict(answer["manifests"])

        yield render
        helm.stdin.close()


@pytest.fixture(scope="session")
def render(render_files: Callable[[dict[str, Any]], dict[str, str]]) -> Render:
    """Render values into manifests."""
    import yaml

    def manifests(values: dict[str, Any]) -> list[Manifest]:
        files = render_files(values)
        return [
            manifest
            for name, text in files.items()
            if name.endswith(".yaml")
            for manifest in yaml.safe_load_all(text)
            if manifest
        ]

    return manifests


@pytest.fixture(scope="session", params=EXAMPLES, ids=lambda path: path.stem.removesuffix("-values"))
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of the chart's examples of values."""
    import yaml

    return dict(yaml.safe_load(request.param.read_text()))


@pytest.fixture(scope="session")
def manifests(render: Render, values: dict[str, Any]) -> list[Manifest]:
    """What becomes of the example."""
    return render(values)
