"""The cluster of docker-compose.yml, as a user runs it, under a project name of its own."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailplane.deploy import probe
from tailplane.deploy.ports import HOST

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 3
# Seconds: for one command, a build included; for containers to become healthy.
_COMMAND = 900.0
_HEALTHY = 120.0


def compose_command() -> list[str] | None:
    """Return the command that is Compose here; None where there is none."""
    has_plugin = (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    )
    if has_plugin:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@dataclass(frozen=True, slots=True)
class Container:
    """What Docker says of a container.

    Attributes:
        name: as Docker calls it.
        details: the answer of `docker inspect`.
    """

    name: str
    details: dict[str, Any] = field(repr=False)

    @property
    def host(self) -> str:
        """Its host name, by which its programs know the machine."""
        return str(self.details["Config"]["Hostname"])

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        state = self.details["State"]
        return None if state["Running"] else int(state["ExitCode"])

    @property
    def is_healthy(self) -> bool:
        """Whether it runs, and its health check says so."""
        state = self.details["State"]
        return bool(state["Running"]) and state["Health"]["Status"] == "healthy"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A project of Compose.

    Attributes:
        command: what Compose is called here.
        project: its name.
        port: where the load balancer is published on this machine.
        directory: holds the ledger, and takes logs.
    """

    command: Sequence[str]
    project: str
    port: int
    directory: Path

    @property
    def url(self) -> str:
        """Where clients come in."""
        return f"http://{HOST}:{self.port}"

    @property
    def ledger(self) -> Path:
        """Where each run of an attempt leaves a line."""
        return self.directory / "ledger"

    @property
    def environment(self) -> dict[str, str]:
        """What chooses this cluster, for Compose and for `deploy/roll`."""
        files = [ROOT / "docker-compose.yml", ROOT / "tests/compose/docker-compose.yml"]
        return os.environ | {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": os.pathsep.join(map(str, files)),
            "TAILPLANE_PUBLISH": f"{HOST}:{self.port}",
            "WORKFLOWS_DIR": str(ROOT),
            "WORKFLOWS": "tests.compose.workflows",
            "LEDGER_DIR": str(self.directory),
        }

    def compose(self, *arguments: str) -> str:
        """Run Compose; return what it wrote."""
        return self.run([*self.command, *arguments])

    def run(self, command: Sequence[str]) -> str:
        """Run a command that is about this cluster; return what it wrote to its standard output."""
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=_COMMAND, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def containers(self, service: str) -> list[Container]:
        """Return the containers of a service, in the order of their names, whether they run or not."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        ids = self.run(["docker", "ps", "-aq", *filters]).split()
        details = json.loads(self.run(["docker", "inspect", *ids])) if ids else []
        found = [Container(one["Name"].lstrip("/"), one) for one in details]
        return sorted(found, key=lambda one: one.name)

    def kill(self, container: Container) -> None:
        """End a container with SIGKILL. Docker takes that for a wish and does not start it again."""
        self.run(["docker", "kill", "-s", "KILL", container.name])

    def start(self, container: Container) -> None:
        """Start a container that has ended."""
        self.run(["docker", "start", container.name])

    def wait_until_healthy(
        self, services: Sequence[str] = ("redis", "control-plane", "load-balancer", "worker")
    ) -> None:
        """Wait until all containers are healthy, and the load balancer has found a control plane that is ready."""
        deadline = time.monotonic() + _HEALTHY
        while True:
            ill = [one.name for service in services for one in self.containers(service) if not one.is_healthy]
            if not ill and probe.is_ready(self.url):
                return
            assert time.monotonic() < deadline, f"not healthy: {ill or self.url}\n{self.compose('logs', '--tail=20')}"
            time.sleep(0.3)

    def write_logs(self) -> list[Path]:
        """Write what each container of our own programs has logged into a file each; return those."""
        found = []
        for container in (*self.containers("control-plane"), *self.containers("worker")):
            log = self.directory / f"{container.name}.log"
            with log.open("wb") as file:
                subprocess.run(
                    ["docker", "logs", container.name], stdout=file, stderr=file, check=True, timeout=_COMMAND
                )
            found.append(log)
        return found
