"""A refund that is asked for, approved and paid: also by a task that is parked while its worker is killed."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailplane.client import SyncClient
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.protocol.states import State

pytestmark = [pytest.mark.process]


@pytest.fixture(scope="module")
def cluster(examples: Path, api_key: str) -> Iterator[LocalCluster]:
    env = {"TAILPLANE_PARK_AFTER": "0.3"}
    with LocalCluster(Plan(target=str(examples / "approval/workflow.py"), env=env, api_key=api_key)) as running:
        yield running


@pytest.mark.parametrize(
    ("word", "end"), [("yes", r"7.00 paid back for order-1 \(\w{6}\)"), ("no", "refused by the client")]
)
def test_the_client_asks_decides_and_shows_what_was_done(run_script: Callable[..., Any], word: str, end: str) -> None:
    done = run_script("approval/client.py", "order-1", word)

    assert done.returncode == 0, done.stderr
    approved = ["approved by the client"] * (word == "yes")
    steps = [
        "  step look_up: attempt 1",
        "  wait Approval: attempt 1",
        *["  step pay_back: attempt 1"] * (word == "yes"),
    ]
    first, *said, result = done.stdout.splitlines()[: -len(steps)]
    assert (first, said) == ("looking for order-1", approved)
    assert re.fullmatch(end, result)
    assert done.stdout.splitlines()[-len(steps) :] == steps


def test_it_waits_without_a_worker_and_goes_on_where_it_was(cluster: LocalCluster) -> None:
    with SyncClient(cluster.url) as client:
        task = client.run_workflow("refund", "order-1")
        deadline = time.monotonic() + 30
        while task.status().state is not State.WAITING:
            assert time.monotonic() < deadline
        cluster.workers[0].kill()
        cluster.restart_worker()
        task.send_event({"approved": True, "by": "somebody"}, type="Approval")

        assert "paid back" in task.result(timeout=30)
        assert [step.attempt for step in task.steps()] == [1, 2, 2]
        written = [event.data for event in task.events() if event.kind == "workflow"]
        assert written == ["looking for order-1", {"order": "order-1", "cents": 700}, "approved by somebody"]
