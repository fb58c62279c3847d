"""The whole of Tailplane on one machine: Valkey, control planes and workers, each a real process on a loopback port.

Used by `dev`, the demo, the pytest plugin and the tests, which may kill any of its processes and start it again. All of
them are children of this process and end with it. It promises readiness: after `start` the control planes take
requests and know every worker. It does not restart what dies; that is `supervisor`'s.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tailplane.deploy import probe
from tailplane.deploy.child import Child, Output, Sink, tailplane_command
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.errors import DeadlinePassed
from tailplane.deploy.ports import HOST, free_port, metrics_variable

_POLL_INTERVAL = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a local cluster consists of.

    Attributes:
        target: what the workers run: `module:attribute`, a module or a file; None for no workers.
        workers: number of worker processes.
        control_planes: number of control plane processes.
        concurrency: tasks that one worker runs at once; None for the worker's own default.
        port: of the first control plane; None for a free one. The others get free ones.
        metrics_port: for probes and metrics of the first control plane; the other processes get the ones that follow,
            control planes first. None: none, whatever the environment says.
        data_dir: of Valkey, which then keeps an append-only file; None for a temporary directory and no persistence.
        api_key: what the control planes demand of their callers, with all rights of the tenant `default`, see
            `TAILPLANE_ADMIN_KEY`; None: nobody signs in. Workers are not told it.
        env: variables for control planes and workers, over those of this process.
        cwd: directory of the processes, where the target is looked up; None for this process' own.
        sink: takes what the processes write, line by line; None for log files in `LocalCluster.log_dir`.
        start_timeout: seconds within which all must be ready.
        drain: seconds that running tasks get to finish when a worker stops; then they are handed back. Where the
            environment has a TAILPLANE_DRAIN_GRACE, that counts.
        grace: seconds that a process gets to end by itself when it is stopped; more than `drain`.
    """

    target: str | None = None
    workers: int = 1
    control_planes: int = 1
    concurrency: int | None = None
    port: int | None = None
    metrics_port: int | None = None
    data_dir: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    sink: Sink | None = None
    start_timeout: float = 60.0
    drain: float = 2.0
    grace: float = 10.0


class LocalCluster:
    """The processes of one `Plan`; a context manager that starts and stops them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.server = EmbeddedServer(plan.data_dir, persist=plan.data_dir is not None, start_timeout=plan.start_timeout)
        self.control_planes: list[Child] = []
        self.workers: list[Child] = []
        self.urls: list[str] = []
        self._logs: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        """The first control plane's URL: what clients want."""
        return self.urls[0]

    @property
    def redis_url(self) -> str:
        """The server's URL."""
        return self.server.url

    @property
    def log_dir(self) -> Path:
        """Where the processes' logs are until `stop`, named after the processes."""
        if self._logs is None:
            self._logs = tempfile.TemporaryDirectory(prefix="tailplane-logs-")
        return Path(self._logs.name)

    def start(self) -> Self:
        """Start everything and wait until it is ready; on failure nothing is left running.

        Raises:
            ProcessFailed: a process ended, or was not ready in time; carries the end of its log.
            PortInUse, DataDirInUse, MissingExtra: see `EmbeddedServer`.
        """
        try:
            self.start_server()
            self.launch()
            self.wait_for_control_planes()
            self.wait_for_workers()
        except BaseException:
            self.stop()
            raise
        return self

    def start_server(self) -> None:
        """Start Valkey alone and settle on the addresses."""
        self.server.start()
        if not self.urls:
            ports = [self.plan.port or free_port(), *(free_port() for _ in range(self.plan.control_planes - 1))]
            self.urls = [f"http://{HOST}:{port}" for port in ports]
            self.control_planes = [self._control_plane(index, port) for index, port in enumerate(ports)]
            self.workers = [self._worker(index) for index in range(self.plan.workers if self.plan.target else 0)]

    def launch(self) -> None:
        """Start the processes of control planes and workers, all at once, without waiting."""
        for child in (*self.control_planes, *self.workers):
            child.start()

    def wait_for_control_planes(self) -> None:
        """Return when all control planes take requests.

        Raises:
            ProcessFailed: one of them ended, or was not ready in time.
        """
        for child, url in zip(self.control_planes, self.urls, strict=True):
            self._wait([child], partial(probe.is_ready, url), "was not ready")

    def wait_for_workers(self, children: Sequence[Child] | None = None) -> None:
        """Return when the control plane knows all workers, or those given.

        Raises:
            ProcessFailed: one of them ended, or was not registered in time.
        """
        children = self.workers if children is None else children
        if children:
            wanted = {child.pid for child in children}
            self._wait(children, lambda: wanted <= self._registered(), "did not register")

    def kill_worker(self, index: int = 0) -> None:
        """End a worker with SIGKILL."""
        self.workers[index].kill()

    def restart_worker(self, index: int = 0) -> None:
        """Start a worker again (after a SIGTERM if it runs) and wait until it is registered."""
        worker = self.workers[index]
        worker.stop(self.plan.grace)
        worker.start()
        self.wait_for_workers([worker])

    def kill_control_plane(self, index: int = 0) -> None:
        """End a control plane with SIGKILL."""
        self.control_planes[index].kill()

    def restart_control_plane(self, index: int = 0) -> None:
        """Start a control plane again (after a SIGTERM if it runs), on its port, and wait until it is ready."""
        child, url = self.control_planes[index], self.urls[index]
        child.stop(self.plan.grace)
        child.start()
        self._wait([child], partial(probe.is_ready, url), "was not ready")

    def kill_server(self) -> None:
        """End Valkey with SIGKILL."""
        self.server.kill()

    def restart_server(self) -> None:
        """Start Valkey again on its port and directory; without a data directory everything in it is lost."""
        if self.server.is_running:
            self.server.kill()
        self.server.start()

    def stop(self, in_a_hurry: Callable[[], bool] = lambda: False) -> None:
        """End control planes (their readers get a hint to reconnect), workers (they hand back), then Valkey.

        Args:
            in_a_hurry: asked while waiting; once it says yes, what still lives is killed.
        """
        for group in (self.control_planes, self.workers):
            stop_all(group, self.plan.grace, in_a_hurry)
        self.server.stop(0.0 if in_a_hurry() else self.plan.grace)
        if self._logs is not None:
            self._logs.cleanup()
            self._logs = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _registered(self) -> set[int]:
        return next((pids for url in self.urls if (pids := probe.worker_pids(url, api_key=self.plan.api_key))), set())

    def wait_until(self, is_true: Callable[[], bool], what: str) -> None:
        """Ask until the answer is yes.

        Raises:
            DeadlinePassed: `what` did not come true in time.
        """
        self._wait([], is_true, f"{what}: not")

    def _wait(self, children: Sequence[Child], is_ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self.plan.start_timeout
        while not is_ready():
            for child in children:
                if not child.is_running:
                    raise child.failure(f"ended with exit code {child.returncode}")
            if time.monotonic() > deadline:
                name, tail = (children[0].name, children[0].log_tail()) if children else ("the cluster", "")
                raise DeadlinePassed(name, f"{what} within {self.plan.start_timeout:g} s", log_tail=tail)
            time.sleep(_POLL_INTERVAL)

    def _control_plane(self, index: int, port: int) -> Child:
        name = "control-plane" if self.plan.control_planes == 1 else f"control-plane-{index + 1}"
        env = {"TAILPLANE_HOST": HOST, "TAILPLANE_PORT": str(port), **_doors(self.plan.api_key)}
        return self._child(name, index, ("control-plane",), env)

    def _worker(self, index: int) -> Child:
        assert self.plan.target is not None
        concurrency = () if self.plan.concurrency is None else ("--concurrency", str(self.plan.concurrency))
        return self._child(
            f"worker-{index + 1}", self.plan.control_planes + index, ("worker", self.plan.target, *concurrency), {}
        )

    def _child(self, name: str, index: int, arguments: tuple[str, ...], env: Mapping[str, str]) -> Child:
        output: Output = self.plan.sink or self.log_dir / f"{name}.log"
        drain = os.environ.get("TAILPLANE_DRAIN_GRACE", f"PT{self.plan.drain:f}S")
        ours = {
            "TAILPLANE_REDIS_URL": self.redis_url,
            "TAILPLANE_URL": self.url,
            "TAILPLANE_DRAIN_GRACE": drain,
            # One port can't be that of all.
            "TAILPLANE_METRICS_PORT": "",
            "TAILPLANE_METRICS_HOST": HOST,
            "TAILPLANE_METRICS_TOKEN": "",
            **metrics_variable(self.plan.metrics_port, index),
            **_CLOSED,
        }
        return Child(
            name,
            tailplane_command(*arguments),
            output=output,
            env={**ours, **env, **self.plan.env},
            cwd=self.plan.cwd,
        )


# No door, and no key to one: what the environment of this process says of other control planes is not meant for these,
# and workers have none. Workflows of all tenants run in them, and read their environment.
_CLOSED = {"TAILPLANE_AUTH": "", "TAILPLANE_ADMIN_KEY": "", "TAILPLANE_API_KEY": ""}


def _doors(api_key: str | None) -> dict[str, str]:
    """Return what a control plane is told of its callers."""
    return {} if api_key is None else {"TAILPLANE_AUTH": "keys", "TAILPLANE_ADMIN_KEY": api_key}


def stop_all(children: Sequence[Child], grace: float, in_a_hurry: Callable[[], bool] = lambda: False) -> None:
    """End these children at the same time: SIGTERM, and SIGKILL after `grace` seconds or once `in_a_hurry`."""
    deadline = time.monotonic() + grace
    for child in children:
        child.terminate()
    for child in children:
        while child.is_running and time.monotonic() < deadline and not in_a_hurry():
            child.wait(0.05)
        child.kill()
