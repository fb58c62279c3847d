"""A server with the users of `deploy/redis/users.acl`: Valkey, or a Redis that asks for certificates on both sides."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import pytest
import redis
import trustme

from tailplane.deploy.ports import HOST, free_port
from tailplane.deploy.tether import TetheredProcess
from tailplane.deploy.valkey_config import ConfigValue, render
from tests.sentinel_process import until

ROOT = Path(__file__).parents[1]
USERS = ("admin", "control-plane", "worker", "metrics", "replica", "sentinel")


def password_of(user: str) -> str:
    """Return a password that has to be encoded in a URL, and quoted in a shell."""
    return f"p@ss/:{user} $'\"#"


def redis_with_tls() -> Path:
    """Return a redis-server that knows TLS, which the embedded server does not: in Debian 12 the oldest one, 7.0.

    Without it the test is skipped; where it must be there, it fails.
    """
    if found := shutil.which("redis-server"):
        return Path(found)
    if os.environ.get("CI") == "true":
        pytest.fail("redis-server is not installed")
    pytest.skip("redis-server is not installed: the embedded server knows no TLS")


def filled_users(passwords: Mapping[str, str], *arguments: str) -> str:
    """Return what `fill-users` makes of the users' file."""
    env = {f"{user.upper().replace('-', '_')}_PASSWORD": password for user, password in passwords.items()}
    command = [str(ROOT / "deploy" / "redis" / "fill-users"), *arguments]
    return subprocess.run(
        command, env={"PATH": os.environ["PATH"]} | env, check=True, capture_output=True, text=True
    ).stdout


class GuardedServer:
    """One server on a loopback port; a context manager that starts and ends it.

    Args:
        binary: a valkey-server or redis-server.
        is_encrypted: listen for TLS only, and take no client without a certificate.
        name: whose its certificate is.
    """

    def __init__(self, binary: Path, *, is_encrypted: bool, name: str = HOST, **config: ConfigValue) -> None:
        self.port = free_port()
        self._binary = binary
        self._is_encrypted = is_encrypted
        self._name = name
        self._config = config
        self._dir = tempfile.TemporaryDirectory(prefix="tailplane-guarded-")
        self._process: TetheredProcess | None = None

    @property
    def dir(self) -> Path:
        """Where its files are."""
        return Path(self._dir.name)

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self.dir / "log").read_text()

    def url(self, user: str, **options: str) -> str:
        """Return the URL of a user, with the client's certificate where it wants one."""
        login = f"{user}:{quote(password_of(user), safe='')}@{HOST}:{self.port}/0"
        if not self._is_encrypted:
            return f"redis://{login}" + (f"?{urlencode(options)}" if options else "")
        files = {
            "ssl_ca_certs": self.dir / "ca.pem",
            "ssl_certfile": self.dir / "client.pem",
            "ssl_keyfile": self.dir / "client.pem",
        }
        return f"rediss://{login}?{urlencode(files | options)}"

    def ask(self, *command: str, user: str = "admin") -> Any:
        """Send one command as a user, and return its reply."""
        with redis.Redis.from_url(
            self.url(user), socket_timeout=5, lib_name=None, lib_version=None, decode_responses=True
        ) as client:
            return client.execute_command(*command)

    def refused(self) -> list[tuple[str, str]]:
        """Return what it refused for want of a right: user and command, key or channel."""
        return [(entry["username"], entry["object"]) for entry in map(_mapping, self.ask("ACL", "LOG"))]

    def __enter__(self) -> Self:
        users = self.dir / "users.acl"
        users.write_text(filled_users({user: password_of(user) for user in USERS}))
        settings: dict[str, ConfigValue] = {
            "bind": HOST,
            "port": 0 if self._is_encrypted else self.port,
            "dir": str(self.dir),
            "aclfile": str(users),
            "save": "",
            "appendonly": True,
            "acllog-max-len": 1000,
        }
        if self._is_encrypted:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self.dir / "ca.pem")
            for file, name in (("server.pem", self._name), ("client.pem", "client")):
                authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(self.dir / file)
            settings |= {
                "tls-port": self.port,
                "tls-ca-cert-file": str(self.dir / "ca.pem"),
                "tls-cert-file": str(self.dir / "server.pem"),
                "tls-key-file": str(self.dir / "server.pem"),
                "tls-auth-clients": True,
                "tls-replication": True,
            }
        config = self.dir / "redis.conf"
        config.write_text(render(settings | {name.replace("_", "-"): value for name, value in self._config.items()}))
        with (self.dir / "log").open("wb") as log:
            self._process = TetheredProcess([str(self._binary), str(config)], output=log)
        until(self._answers, "the server answers")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
        self._dir.cleanup()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False


def _mapping(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
