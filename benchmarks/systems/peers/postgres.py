"""A private Postgres: a fresh cluster in a temporary folder, on a free loopback port, with Postgres' own defaults.

Its programs are the system's (Debian's `postgresql`). Postgres refuses to run as root, so root runs it as the user
`postgres` that the package makes.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.processes import Process, free_port

_LONGEST_START_S = 30


def install() -> None:
    """Install Debian's Postgres if there is none; needs root."""
    if _programs() is not None:
        return
    if os.geteuid() != 0:
        raise RuntimeError("Postgres is missing: install it (Debian: apt-get install postgresql)")
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"], check=True)


class Postgres:
    """One cluster and its server.

    Attributes:
        pid: the first process; each connection is served by a child of it.
        url: a database on it, which is not made yet.
    """

    def __init__(self) -> None:
        programs = _programs()
        if programs is None:
            raise RuntimeError("Postgres is missing: prepare() installs it")
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._data = self._folder / "data"
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        # Trust: only for as long as a benchmark runs, only on loopback, and only benchmark data.
        cluster = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", *cluster).check_returncode()
        port = free_port()
        listen = ["-p", str(port), "-h", "127.0.0.1", "-k", str(self._folder)]
        self._process = Process(
            [*self._as_user, str(programs / "postgres"), "-D", str(self._data), *listen], self._folder / "log"
        )
        self.pid = self._process.pid
        self.url = f"postgresql://postgres@127.0.0.1:{port}/benchmark"
        self._wait(port)

    def stop(self) -> None:
        """End the server, also when it still has connections, and remove the cluster."""
        self._run("pg_ctl", "stop", "--mode=fast")
        self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        command = [*self._as_user, str(self._programs / program), "-D", str(self._data), *arguments]
        return subprocess.run(command, capture_output=True, cwd=self._folder, check=False)

    def _wait(self, port: int) -> None:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        deadline = time.monotonic() + _LONGEST_START_S
        while subprocess.run(ready, check=False).returncode:
            if self._process.has_ended or time.monotonic() > deadline:
                told = self._process.log_tail()
                self.stop()
                raise RuntimeError(f"Postgres did not start; its log ends:\n{told}")
            time.sleep(0.05)


def _programs() -> Path | None:
    """Return the folder of the newest installed Postgres' programs; None: there is none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    found = str(debian[-1]) if debian else shutil.which("postgres")
    return Path(found).resolve().parent if found else None
