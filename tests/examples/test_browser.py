"""The page that tails with EventSource: its server by HTTP, and the page itself in Chromium where there is one."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.ports import free_port

from .sites import Tab, served

pytestmark = pytest.mark.process

EVENT_STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def cluster(examples: Path, api_key: str) -> Iterator[LocalCluster]:
    with LocalCluster(Plan(target=str(examples / "browser/workflow.py"), api_key=api_key)) as running:
        yield running


@pytest.fixture(scope="module")
def site(cluster: LocalCluster, examples: Path) -> Iterator[str]:
    with served(examples / "browser/serve.py", free_port(), cluster.url, cluster) as url:
        yield url


@pytest.fixture
def http(site: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=site, timeout=30, trust_env=False) as http:
        yield http


def submit(http: httpx2.Client, **countdown: float) -> str:
    """Start a countdown through the page's server, and return the path of its stream."""
    answer = http.post("/v1/tasks", json={"workflow": "countdown", "input": countdown})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"].endswith(answer.json()["task_id"])
    return f"/v1/tasks/{answer.json()['task_id']}/events"


def test_the_page_is_one_file_that_loads_nothing_else(http: httpx2.Client) -> None:
    page = http.get("/")

    assert page.headers["content-type"].startswith("text/html")
    assert "new EventSource(" in page.text
    assert not re.search(r"""https?://|\bimport\b|\bsrc=|href="(?!data:)""", page.text)


def test_the_server_passes_a_stream_on_event_by_event(http: httpx2.Client) -> None:
    stream = submit(http, start=4, pause=1)
    arrived: list[float] = []
    events: list[tuple[str, dict[str, Any]]] = []
    with http.stream("GET", stream, headers=EVENT_STREAM) as response:
        assert response.headers["content-type"] == "text/event-stream"
        for event in httpx2.EventSource(response):
            arrived.append(time.time())
            events.append((event.event, json.loads(event.data)))

    assert [name for name, _ in events] == ["task.queued", "task.started", *["message"] * 4, "task.succeeded"]
    numbers = [event["data"]["number"] for name, event in events if name == "message"]
    assert numbers == [4, 3, 2, 1]
    # Each arrives before the next is written, a second later; one may meet a machine that stands still. Where events
    # are held back until more has come, of each two at least one is late.
    written = [event["time"] for _, event in events]
    late = [at - following for at, following in zip(arrived[2:], written[3:], strict=False) if at >= following]
    assert len(late) <= 1, late


def test_the_last_event_s_id_is_passed_on_and_the_end_is_a_204(http: httpx2.Client) -> None:
    stream = submit(http, start=2, pause=0)
    with http.stream("GET", stream, headers=EVENT_STREAM) as response:
        ids = [event.id for event in httpx2.EventSource(response)]
    with http.stream("GET", stream, headers=EVENT_STREAM | {"Last-Event-ID": ids[2]}) as response:
        assert [event.id for event in httpx2.EventSource(response)] == ids[3:]

    assert http.get(stream, headers=EVENT_STREAM | {"Last-Event-ID": ids[-1]}).status_code == 204


def test_problems_come_through_as_they_are(http: httpx2.Client) -> None:
    answer = http.post("/v1/tasks", json={"workflow": "countdown", "input": {"start": "many"}})

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["code"] == "invalid_input"


def test_other_names_than_this_machine_s_are_refused(http: httpx2.Client) -> None:
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_without_a_control_plane_streams_are_told_to_come_back(cluster: LocalCluster, examples: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with (
        served(examples / "browser/serve.py", free_port(), nobody, cluster) as url,
        httpx2.Client(base_url=url, timeout=30, trust_env=False) as http,
    ):
        answer = http.get("/v1/tasks/t_1/events", headers=EVENT_STREAM)
        assert (answer.status_code, answer.text) == (200, "retry: 1000\n\n")
        assert answer.headers["content-type"] == "text/event-stream"
        assert http.get("/v1/workflows").status_code == 502


@pytest.fixture
def page(site: str, tab: Tab) -> Tab:
    tab.open(site)
    tab.wait_for_status("^ready$")
    return tab


RUN = """document.getElementById("input").value = {input!r}; document.querySelector("#form button").click();"""
ROWS = """[...document.querySelectorAll("#events tr")].map((row) => [...row.cells].map((cell) => cell.textContent))"""


def test_the_page_shows_events_as_they_come_and_stops_at_the_end(page: Tab) -> None:
    page.run(RUN.format(input='{"start": 4, "pause": 1}'))
    assert page.wait_for_status("^task.succeeded$|refused|Error") == "task.succeeded"

    rows = page.run(ROWS)
    assert [seq for seq, _, _ in rows] == [str(seq) for seq in range(1, 8)]
    assert [said for _, _, said in rows[2:6]] == [f'{{"number":{number}}}' for number in (4, 3, 2, 1)]
    assert rows[-1][2] == 'task.succeeded {"result":"lift-off"}'
    # Each is shown before the next is written, a second later; one may meet a machine that stands still. Where events
    # are held back until more has come, of each two at least one is late. Nothing follows the last.
    late = [delay for _, delay, _ in rows[2:-1] if int(delay.removesuffix(" ms")) >= 1000]
    assert len(late) <= 1, rows
    assert page.run("source === null")


def test_the_page_cancels(page: Tab) -> None:
    page.run(RUN.format(input='{"start": 1000, "pause": 0.05}'))
    page.wait_for_status("^live$")
    page.run("""document.getElementById("cancel").click()""")

    assert page.wait_for_status("^task.cancelled$|refused|Error") == "task.cancelled"


def test_the_page_tells_why_an_input_is_refused(page: Tab) -> None:
    page.run(RUN.format(input='{"start": "many"}'))

    assert "does not fit countdown" in page.wait_for_status("Error")
