"""What `tailplane dev` does: a local cluster in one terminal, kept alive, its workers started anew when code changes.

It owns the terminal's log, the order of starting and stopping, and nothing else: processes are `cluster`'s, restarts
`supervisor`'s, changes `source_watch`'s.
"""

import hashlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tailplane.deploy import probe
from tailplane.deploy.child import Child
from tailplane.deploy.cluster import LocalCluster, Plan, stop_all
from tailplane.deploy.data_dir import is_in_use
from tailplane.deploy.embedded import EmbeddedServer
from tailplane.deploy.errors import DeployError, PortInUse
from tailplane.deploy.interrupts import Interrupts
from tailplane.deploy.line_log import LineLog
from tailplane.deploy.ports import is_free
from tailplane.deploy.sample_input import run_command
from tailplane.deploy.source_watch import SourceWatch
from tailplane.deploy.supervisor import Member, Supervisor
from tailplane.deploy.targets import check_target, home_of, source_of

_TICK = 0.1
_RELOAD_GRACE = 3.0
# The processes write to pipes, and would take us for a collector of logs.
_ENVIRONMENT = {"TAILPLANE_LOG_FORMAT": "console"}


@dataclass(frozen=True, slots=True)
class WatchedServer:
    """The embedded server as a member for the supervisor."""

    server: EmbeddedServer
    name: str = "valkey"

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.server.is_running

    @property
    def returncode(self) -> int | None:
        """How the process ended."""
        return self.server.returncode

    def start(self) -> None:
        """Start it again on its port and directory."""
        self.server.start()


class DevSession:
    """One run of `tailplane dev`."""

    def __init__(self, plan: Plan, *, reload: bool) -> None:
        """Prepare a session.

        Args:
            plan: what to run; its port must be given, and its sink is the session's own.
            reload: start the workers anew when their source changes.
        """
        names = ["control-plane", *(f"worker-{index + 1}" for index in range(plan.workers)), "valkey"]
        self._log = LineLog(names, sys.stdout)
        self._plan = plan
        self._cluster = LocalCluster(_with_sink(plan, self._log))
        watched = source_of(plan.target, Path.cwd()) if reload and plan.target else []
        self._watch = SourceWatch(watched)
        self._waits_for_change = False
        self._told: set[int | None] = set()

    def run(self) -> None:
        """Run until a signal comes.

        Raises:
            TargetNotFound, PortInUse, DataDirInUse, MissingExtra: it can't begin.
            ProcessFailed: Valkey or the control plane did not start.
            DeployError: the workers can't load their target, and nothing is watched.
        """
        with Interrupts() as interrupts:
            try:
                self._start()
                self._keep_alive()
            except KeyboardInterrupt:
                self._say("stopping: control plane, workers, valkey (Ctrl-C again to hurry)")
            finally:
                self._watch.stop()
                self._cluster.stop(lambda: interrupts.insisted)
        self._say("stopped")

    def _start(self) -> None:
        port, kept = self._plan.port, self._plan.data_dir
        if self._plan.target:
            check_target(self._plan.target, Path.cwd())
        if port and not is_free(port):
            is_ours = kept is not None and is_in_use(kept)
            raise PortInUse(port, "--port, and another place with --data-dir" if is_ours else "--port")
        self._watch.start()
        self._cluster.start_server()
        self._cluster.launch()
        self._cluster.wait_for_control_planes()
        self._greet()

    def _keep_alive(self) -> None:
        cluster = self._cluster
        members: list[Member] = [WatchedServer(cluster.server), *cluster.control_planes, *cluster.workers]
        supervisor = Supervisor(members, self._log.note, time.monotonic())
        while True:
            if changed := self._watch.take():
                self._reload(supervisor, sorted(changed))
            supervisor.tick(time.monotonic())
            self._tell_workers()
            self._tell_hopeless(supervisor.hopeless)
            time.sleep(_TICK)

    def _tell_hopeless(self, names: list[str]) -> None:
        """Say it once when code can't be loaded: the developer's next save may mend it.

        Raises:
            DeployError: there is nothing to watch, so that nothing will mend it.
        """
        if names and not self._watch.directories:
            # Its log went to this terminal already: to show its end again would say it all twice.
            raise DeployError(f"{names[0]} can't load its target", hint="what it wrote, above, says why")
        if names and not self._waits_for_change:
            self._say("waiting for a change of the source")
        self._waits_for_change = bool(names)

    def _reload(self, supervisor: Supervisor, changed: list[Path]) -> None:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        self._say(f"{_short(changed[0])}{more} changed: starting the workers again")
        workers: list[Child] = self._cluster.workers
        stop_all(workers, _RELOAD_GRACE)
        for worker in workers:
            worker.start()
        supervisor.renew(workers, time.monotonic())

    def _greet(self) -> None:
        kept = self._plan.data_dir
        self._say(f"control plane  {self._cluster.url}  (API: {self._cluster.url}/docs)")
        self._say(f"valkey         {self._cluster.redis_url}  (data: {_short(kept) if kept else 'kept nowhere'})")
        if os.environ.get("TAILPLANE_AUTH") == "keys" or os.environ.get("TAILPLANE_ADMIN_KEY"):
            # As a rule they are another deployment's. Whoever means this one must not believe that it asks for keys.
            redis = self._cluster.redis_url
            self._say(
                "signing in     nobody has to: `dev` leaves TAILPLANE_AUTH and TAILPLANE_ADMIN_KEY out. With keys:"
            )
            self._say(
                f"               TAILPLANE_REDIS_URL={redis} TAILPLANE_AUTH=keys tailplane control-plane --port 8421"
            )
        if self._watch.directories:
            self._say(f"watching       {', '.join(map(_short, self._watch.directories))}")
        if not self._plan.target:
            self._say(
                f"no workers here; start one: TAILPLANE_REDIS_URL={self._cluster.redis_url} tailplane worker TARGET"
            )

    def _tell_workers(self) -> None:
        """Say it once when all workers are registered, after a start as after a restart of any of them."""
        running = {worker.pid for worker in self._cluster.workers if worker.is_running}
        if running == self._told or len(running) < len(self._cluster.workers):
            return
        known = {worker["pid"]: worker for worker in probe.list_items(self._cluster.url, "workers") or ()}
        if not running <= known.keys():
            return
        self._told = running
        names = sorted({name for pid in running for name in known[pid]["workflows"]})
        self._say(f"workers ready  {', '.join(names)}")
        place = "" if self._plan.port == DEFAULT_PORT else f"TAILPLANE_URL={self._cluster.url} "
        listed = {workflow["name"]: workflow for workflow in probe.list_items(self._cluster.url, "workflows") or ()}
        self._say(f"try            {place}{run_command(listed.get(names[0], {'name': names[0]}))} --follow")

    def _say(self, text: str) -> None:
        self._log.note("tailplane", text)


DEFAULT_PORT = 8420


def default_data_dir(
    target: str | None, cwd: Path, environment: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> Path:
    """Return where the data of one project lies by default: workflows and tasks of several must not mix.

    Args:
        target: what the workers run.
        cwd: where it is looked for.
        environment: may say where data is kept.
        platform: as `sys.platform`.
    """
    home, name = home_of(target, cwd)
    mark = hashlib.sha256(f"{home}\0{name}".encode(errors="surrogateescape")).hexdigest()[:8]
    return _user_data_dir(environment, platform) / f"{home.name or 'root'}-{mark}"


def _user_data_dir(environment: Mapping[str, str], platform: str) -> Path:
    """Return where this user's programs keep data on this platform."""
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tailplane"
    shared = environment.get("XDG_DATA_HOME", "")
    # The specification: a relative path is to be ignored.
    return (Path(shared) if shared.startswith("/") else Path.home() / ".local" / "share") / "tailplane"


def _with_sink(plan: Plan, log: LineLog) -> Plan:
    import dataclasses

    ours = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    return dataclasses.replace(plan, sink=log, env={**ours, **plan.env})


def _short(path: Path) -> str:
    for start, name in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(start) and path != start:
            return f"{name}{path.relative_to(start)}"
    return str(path)
