"""The pytest plugin in projects of its users, each run by a pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id

FLOWS = """
from tailplane.workers import workflow

@workflow
async def order(ctx, item: str):
    ctx.write_event_to_stream(f"packing {item}")
    return "done"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    (tmp_path / "shop_flows.py").write_text(FLOWS)
    return tmp_path


def run_pytest(project: Path, test: str, *plugins: str, **env: str) -> str:
    (project / "test_shop.py").write_text(test)
    chosen = [option for name in ("tailplane.deploy.pytest_plugin", *plugins) for option in ("-p", name)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *chosen],
        cwd=project,
        # Of the plugins installed here only those named: under whatever name they are registered.
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.process
@pytest.mark.slow
def test_a_marked_test_runs_its_workflows_with_a_blocking_client(project: Path) -> None:
    said = run_pytest(
        project,
        """
import pytest

pytestmark = pytest.mark.tailplane("shop_flows:order")

def test_result(tailplane_sync_client):
    task = tailplane_sync_client.run_workflow("order", "pear")
    assert [event.data for event in task.events() if event.kind == "workflow"] == ["packing pear"]
    assert task.result() == "done"

def test_the_same_cluster(tailplane_url, tailplane_cluster):
    assert tailplane_cluster("shop_flows:order").url == tailplane_url
""",
    )
    assert "2 passed" in said, said


@pytest.mark.process
@pytest.mark.slow
def test_an_async_test_gets_a_client_for_its_own_loop(project: Path) -> None:
    said = run_pytest(
        project,
        """
import pytest

@pytest.fixture
def tailplane_target():
    return "shop_flows.py"

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_result(anyio_backend, tailplane_client):
    async with tailplane_client as client:
        task = await client.run_workflow("order", "pear")
        assert await task.result() == "done"
""",
        "anyio",
    )
    assert "1 passed" in said, said


def test_a_test_without_a_target_is_told_what_to_do(project: Path) -> None:
    said = run_pytest(project, "def test_x(tailplane_url):\n    pass\n")
    assert "mark it @pytest.mark.tailplane" in said
    assert "1 error" in said


def test_who_does_not_use_it_pays_nothing(project: Path) -> None:
    said = run_pytest(
        project,
        """
import sys

def test_nothing_heavy_was_imported():
    heavy = {"httpx2", "pydantic", "redis", "fastapi", "structlog", "msgpack"}
    assert not heavy & set(sys.modules)
    ours = {name for name in sys.modules if name.startswith("tailplane.")}
    assert ours == {"tailplane.deploy", "tailplane.deploy.pytest_plugin"}
""",
    )
    assert "1 passed" in said, said


@pytest.mark.process
@pytest.mark.slow
def test_the_key_of_another_deployment_stays_out_of_it(project: Path) -> None:
    key = ApiKey.draw(new_key_id())
    said = run_pytest(
        project,
        f"""
import pytest

@pytest.mark.tailplane("shop_flows")
def test_it_runs(tailplane_sync_client):
    assert tailplane_sync_client.run_workflow("order", "pear").result(timeout=30) == "done"
    assert {key.secret!r} not in str(tailplane_sync_client._inner._link.transport._headers)
""",
        TAILPLANE_API_KEY=key.text,
        TAILPLANE_ADMIN_KEY=key.text,
        TAILPLANE_AUTH="keys",
    )
    assert "1 passed" in said, said
    assert key.secret not in said
