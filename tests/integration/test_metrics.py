"""The metrics of real processes: each one moves when its thing happens, and what is served is valid OpenMetrics."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tailplane.client import ClientOptions, QueueFull, SyncClient, SyncTask, TaskFailed
from tailplane.control_plane.metrics import ROWS as CONTROL_PLANE
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.ports import HOST
from tailplane.workers.metrics import ROWS as WORKER

from .conftest import WORKFLOWS
from .test_probes import free_ports

pytestmark = [pytest.mark.process, pytest.mark.slow]

SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
AWAY = re.compile(r'tailplane_store_away\{what="([^"]+)"\}')
OUTAGE = re.compile(r'Outage\("([^"]+)"\)')
ROOT = Path(__file__).parents[2]
LABEL = re.compile(r'\w+="([^"]*)"')
# There is no figure before the first look at the deployment.
SURVEYED = {row.name for row in CONTROL_PLANE if "Of the deployment" in row.help} | {"tailplane_survey_age_seconds"}
HASTY = ClientOptions(retry_for=timedelta(seconds=0.1))
# Seconds. Within this time a number must have moved, on a busy machine.
DEADLINE = 40
MAX_QUEUED = 2


class Scrapes:
    """What the programs of a cluster tell; the control plane's port is the first."""

    def __init__(self, first: int, workers: int) -> None:
        self.control_plane = first
        self.workers = [first + 1 + index for index in range(workers)]

    def families(self, port: int) -> dict[str, float]:
        """Return all samples, those of one name added up whatever their labels."""
        found: dict[str, float] = {}
        for line in self.text(port).splitlines():
            if match := SAMPLE.fullmatch(line):
                labels = ":".join(sorted(LABEL.findall(match[2] or "")))
                for name in (match[1], f"{match[1]}:{labels}"):
                    found[name] = found.get(name, 0) + float(match[3])
        return found

    def text(self, port: int) -> str:
        request = Request(f"http://{HOST}:{port}/metrics", headers={"Accept": "application/openmetrics-text"})
        with urlopen(request, timeout=DEADLINE) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            text: str = answer.read().decode()
            return text

    def of_control_plane(self, name: str) -> float:
        return self.families(self.control_plane).get(name, 0)

    def of_workers(self, name: str) -> float:
        return sum(self.families(port).get(name, 0) for port in self.workers)


@pytest.fixture(scope="module")
def scrapes() -> Scrapes:
    return Scrapes(free_ports(3), 2)


@pytest.fixture(scope="module")
def cluster(scrapes: Scrapes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    plan = Plan(
        target=str(WORKFLOWS),
        workers=2,
        metrics_port=scrapes.control_plane,
        data_dir=tmp_path_factory.mktemp("data"),
        env={"TAILPLANE_MAX_QUEUED": str(MAX_QUEUED), "TAILPLANE_DEAD_LETTER_RETENTION": "1h"},
    )
    with LocalCluster(plan) as running:
        yield running


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[SyncClient]:
    with SyncClient(cluster.url) as client:
        yield client


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@contextmanager
def moves(ports: list[int], scrapes: Scrapes, *names: str) -> Iterator[None]:
    """Check that what happens inside makes each of these numbers greater, added up over these programs."""

    def read() -> dict[str, float]:
        found = [scrapes.families(port) for port in ports]
        return {name: sum(each.get(name, 0) for each in found) for name in names}

    before = read()
    yield
    deadline = time.monotonic() + DEADLINE
    while still := [name for name, value in read().items() if value <= before[name]]:
        assert time.monotonic() < deadline, f"{still} did not move"
        time.sleep(0.2)


def test_what_is_served_is_openmetrics(cluster: LocalCluster, scrapes: Scrapes) -> None:
    for port, rows in ((scrapes.control_plane, CONTROL_PLANE), (scrapes.workers[0], WORKER)):
        families = {family.name for family in text_string_to_metric_families(scrapes.text(port))}
        assert {row.name.removesuffix("_total") for row in rows} - families <= SURVEYED
        assert "tailplane_build_info" in families


@pytest.mark.parametrize("part", ["control_plane", "workers"])
def test_each_outage_that_a_program_notices_is_told(cluster: LocalCluster, scrapes: Scrapes, part: str) -> None:
    port = scrapes.control_plane if part == "control_plane" else scrapes.workers[0]
    told = set(AWAY.findall(scrapes.text(port)))
    code = "".join(path.read_text() for path in (ROOT / part).rglob("*.py"))
    # Which asks Redis for nothing.
    assert told == {*OUTAGE.findall(code)} - {"cutting streams"}


def test_a_task_that_is_read_to_its_end(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    worker = moves(
        scrapes.workers,
        scrapes,
        *(
            "tailplane_claims_total:count:default",
            "tailplane_queue_wait_seconds_count",
            "tailplane_attempts_total:count:default:succeeded",
        ),
        *("tailplane_attempt_seconds_sum", "tailplane_first_event_seconds_sum", "tailplane_events_total"),
        *("tailplane_event_bytes_total", "tailplane_entries_total", "tailplane_append_lag_seconds_sum"),
        *("tailplane_flush_events_sum", "tailplane_flush_bytes_sum", "tailplane_flush_seconds_sum"),
        "tailplane_lease_renewals_total",
    )
    control_plane = moves(
        [scrapes.control_plane],
        scrapes,
        *("tailplane_tasks_submitted_total:count:default", "tailplane_http_requests_total:/v1/tasks:202:POST"),
        *("tailplane_http_requests_total:/v1/tasks/{task_id}/events:200:GET", "tailplane_http_request_seconds_sum"),
        *("tailplane_stream_entries_total", "tailplane_stream_bytes_total", "tailplane_arrival_lag_seconds_sum"),
        *("tailplane_handover_seconds_sum", "tailplane_streams_ended_total:end"),
    )
    with worker, control_plane:
        task = client.run_workflow("count", {"n": 20, "pause": 0.02})
        assert list(client.get_task_result_stream(task.task_id)) == list(range(20))


def test_what_is_going_on(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    assert scrapes.of_workers("tailplane_task_slots") == 200
    assert scrapes.of_workers("tailplane_ready") == 2
    assert scrapes.of_workers("tailplane_lease_left_seconds") > 0
    task = client.run_workflow("count", {"n": 100_000, "pause": 0.01})
    with moves([scrapes.control_plane], scrapes, "tailplane_streams_ended_total:left"):
        stream = client.get_task_result_stream(task.task_id)
        next(stream)
        until(lambda: scrapes.of_workers("tailplane_running_tasks:count") == 1, "it runs")
        until(lambda: scrapes.of_workers("tailplane_held_tasks:default") == 1, "it is its tenant's")
        here = scrapes.families(scrapes.control_plane)
        assert (here["tailplane_readers"], here["tailplane_streams_tailed"], here["tailplane_ready"]) == (1, 1, 1)
        assert here["tailplane_window_bytes"] > 0
        stream.close()
    with moves(scrapes.workers, scrapes, "tailplane_attempts_total:cancelled:count:default"):
        task.cancel()
    until(lambda: scrapes.of_control_plane("tailplane_readers") == 0, "nobody reads")
    until(lambda: scrapes.of_control_plane("tailplane_workers") == 2, "both workers are seen")
    assert scrapes.of_control_plane("tailplane_survey_age_seconds") < 30


def test_attempts_that_fail(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    worker = moves(
        scrapes.workers,
        scrapes,
        *("tailplane_attempts_total:default:fail:failed", "tailplane_tasks_failed_total:default:fail"),
        *("tailplane_attempts_total:default:retried:third_time_lucky", "tailplane_rewinds_total:third_time_lucky"),
    )
    with worker, moves([scrapes.control_plane], scrapes, "tailplane_dead_letters"):
        with pytest.raises(TaskFailed):
            client.run_workflow("fail", 2).result(timeout=DEADLINE)
        client.run_workflow("third_time_lucky").result(timeout=DEADLINE)


def test_a_loop_that_is_blocked(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    with moves(scrapes.workers, scrapes, "tailplane_loop_blocks_total", "tailplane_loop_blocked_seconds_total"):
        client.run_workflow("block", 2).result(timeout=DEADLINE)


def test_a_reader_who_comes_too_late(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    task = client.run_workflow("last_words", 400)
    task.result(timeout=DEADLINE)
    with moves([scrapes.control_plane], scrapes, "tailplane_gaps_total"), suppress(Exception):
        next(client.get_task_result_stream(task.task_id))


def test_a_connection_that_says_nothing_clear(cluster: LocalCluster, scrapes: Scrapes) -> None:
    host, port = cluster.url.removeprefix("http://").split(":")
    malformed = moves([scrapes.control_plane], scrapes, "tailplane_connections_ended_total:malformed")
    with malformed, socket.socket() as peer:
        peer.connect((host, int(port)))
        peer.sendall(b"nonsense\r\n\r\n")
        assert peer.recv(4096).startswith(b"HTTP/1.1 400")


def test_a_reader_who_does_not_read(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    task = client.run_workflow("count", {"n": 300_000})
    host, port = cluster.url.removeprefix("http://").split(":")
    with moves([scrapes.control_plane], scrapes, "tailplane_slow_reader_waits_total"), socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, int(port)))
        reader.sendall(f"GET /v1/tasks/{task.task_id}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        until(lambda: scrapes.of_control_plane("tailplane_slow_reader_waits_total") > 0, "it waits")


def test_workers_that_stand_still(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    task = client.run_workflow("count", {"n": 100_000, "pause": 0.01})
    next(client.get_task_result_stream(task.task_id))
    holder = holder_of(client, task)
    others = [worker.pid for worker in client.workers() if worker.pid != holder]
    worker = moves(
        scrapes.workers,
        scrapes,
        *("tailplane_leases_lost_total", "tailplane_attempts_total:count:default:lost"),
        *("tailplane_rewinds_total:count",),
    )
    control_plane = moves(
        [scrapes.control_plane], scrapes, "tailplane_workers_lost_total", "tailplane_tasks_given_back_total"
    )
    with worker:
        with control_plane:
            os.kill(holder, signal.SIGSTOP)
        until(lambda: holder_of(client, task) in others, "another worker takes it over")
        os.kill(holder, signal.SIGCONT)
    task.cancel()
    until(lambda: len(client.workers()) == 2, "both are back")


def test_a_queue_that_nobody_works_on(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    pids = [worker.pid for worker in client.workers()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with moves([scrapes.control_plane], scrapes, "tailplane_tasks_refused_total:default:echo:queue_full"):
            tasks = []
            with pytest.raises(QueueFull), SyncClient(cluster.url, options=HASTY) as hasty:
                for _ in range(MAX_QUEUED + 1):
                    tasks.append(hasty.run_workflow("echo", 1))
        until(lambda: scrapes.of_control_plane("tailplane_queue_depth_tasks:echo") == MAX_QUEUED, "depth")
        until(lambda: scrapes.of_control_plane("tailplane_queued_tasks:default") >= MAX_QUEUED, "depth by tenant")
        until(lambda: scrapes.of_control_plane("tailplane_queue_oldest_age_seconds:echo") > 1, "age")
        until(lambda: scrapes.of_control_plane("tailplane_workflow_workers:echo") == 0, "no workers")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    for task in tasks:
        client.task(task.task_id).result(timeout=DEADLINE)
    until(lambda: scrapes.of_control_plane("tailplane_queue_depth_tasks:echo") == 0, "empty")


def test_a_store_that_goes_away(cluster: LocalCluster, scrapes: Scrapes, client: SyncClient) -> None:
    worker = moves(
        scrapes.workers,
        scrapes,
        *("tailplane_store_outages_total:the lease", "tailplane_store_outages_total:counting what is stored"),
        *("tailplane_store_connections_total", "tailplane_lease_renewals_late_total"),
    )
    plane = moves(
        [scrapes.control_plane],
        scrapes,
        *("tailplane_store_outages_total:minding the fleet", "tailplane_store_outages_total:minding parked tasks"),
    )
    with worker, plane:
        task = client.run_workflow("count", {"n": 100_000, "pause": 0.01})
        next(client.get_task_result_stream(task.task_id))
        cluster.kill_server()
        until(lambda: scrapes.of_workers("tailplane_store_away:the lease") == 2, "it is away")
        until(lambda: scrapes.of_workers("tailplane_unsent_bytes") > 0, "events wait")
        time.sleep(1.5)
        cluster.restart_server()
        until(lambda: scrapes.of_workers("tailplane_store_away") == 0, "it is back")
        task.cancel()


# What has no test above, and where it has one.
ELSEWHERE = {
    "tailplane_claims_refused_total": "tests/unit/workers/test_attempt.py",
    "tailplane_buffer_full_total": "tests/unit/workers/test_counts.py",
    "tailplane_fenced_writes_total": "tests/unit/workers/test_writer.py",
    "tailplane_repaired_entries_total": "tests/unit/workers/test_kept.py",
    "tailplane_events_lost_total": "tests/unit/workers/test_kept.py",
    "tailplane_platform_loop_late_seconds": "tests/unit/broker/test_pulse.py",
    "tailplane_schedule_due_times_total": "tests/contract/http/test_schedules.py",
    "tailplane_readers_refused_total": "tests/contract/http/test_limits.py",
    "tailplane_tasks_ended_late_total": "tests/unit/control_plane/test_housekeeping.py",
}


def test_every_metric_has_a_test() -> None:
    here = WORKFLOWS.with_name("test_metrics.py").read_text()
    for row in (*WORKER, *CONTROL_PLANE):
        if row.name in ELSEWHERE:
            assert (WORKFLOWS.parents[2] / ELSEWHERE[row.name]).exists()
        else:
            assert re.search(rf"{row.name}(_sum|_count)?\b", here), row.name


def holder_of(client: SyncClient, task: SyncTask) -> int | None:
    """Return the process that runs a task now."""
    worker_id = task.status().worker_id
    return next((worker.pid for worker in client.workers() if worker.worker_id == worker_id), None)
