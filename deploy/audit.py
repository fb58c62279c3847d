"""Asks the package index for advisories against what is installed here, and what goes into the images.

python deploy/audit.py             # fails where there is one, and where nobody could be asked: `make audit`
python deploy/audit.py --tolerant  # says so where nobody could be asked, and passes: `make check`

pip-audit says "no known vulnerabilities" also where the index serves none for anything, as mirrors do. So a package
that is known to have some is looked up first: if it is not found guilty, nothing was audited. A good answer is kept for
a day, and one of nobody for an hour, as long as the packages are the same: the check costs nothing meanwhile.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
MEMORY = Path(sys.prefix) / ".audited.json"
# Five advisories since 2024.
GUILTY = "jinja2==2.11.2"
# Advisories that do not touch us, with the reason. Empty: every one counts.
IGNORED: dict[str, str] = {}
# Seconds.
_GOOD_FOR, _UNKNOWN_FOR = 24 * 3600, 3600
_LONGEST = 300


class Finding(NamedTuple):
    """An advisory against a package."""

    package: str
    version: str
    advisory: str
    fixed_in: str


class Audit(NamedTuple):
    """What came out.

    Attributes:
        findings: advisories; each is to be mended.
        audited: how many packages the index knows.
        unknown: packages that it does not, and which so may have any.
    """

    findings: list[Finding]
    audited: int
    unknown: list[str]


class NobodyToAsk(Exception):
    """The index serves no advisories."""


def read(report: dict[str, Any]) -> Audit:
    """Return what a report of pip-audit says."""
    packages = [each for each in report["dependencies"] if each["name"] != "tailplane"]
    findings = [
        Finding(each["name"], each["version"], advisory["id"], ", ".join(advisory["fix_versions"]) or "none yet")
        for each in packages
        for advisory in each.get("vulns", ())
        if not IGNORED.keys() & {advisory["id"], *advisory.get("aliases", ())}
    ]
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    return Audit(findings, len(packages) - len(unknown), unknown)


def ask(*options: str) -> dict[str, Any]:
    """Return what pip-audit reports.

    Raises:
        NobodyToAsk: it could not.
    """
    command = [sys.executable, "-m", "pip_audit", "-f", "json", "--progress-spinner", "off", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST)
        report: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise NobodyToAsk(f"no answer within {_LONGEST} s") from None
    except ValueError:
        raise NobodyToAsk(done.stderr.strip()[-300:] or "pip-audit said nothing") from None
    return report


def audit() -> Audit:
    """Return what the index says.

    Raises:
        NobodyToAsk: it says nothing of anything.
    """
    with tempfile.TemporaryDirectory() as folder:
        guilty = Path(folder, "guilty.txt")
        guilty.write_text(f"{GUILTY}\n")
        if not read(ask("--requirement", str(guilty), "--no-deps", "--disable-pip")).findings:
            raise NobodyToAsk(f"the package index has no advisory against {GUILTY}, which has several")
    here = read(ask("--local"))
    images = read(ask("--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"))
    return Audit(
        sorted({*here.findings, *images.findings}),
        here.audited + images.audited,
        sorted({*here.unknown, *images.unknown}),
    )


def fingerprint() -> str:
    """Return what changes when a package does, or what is ignored."""
    installed = sorted(f"{each.metadata['Name']}=={each.version}" for each in distributions())
    return hashlib.sha256("\n".join([*installed, CONSTRAINTS.read_text(), *IGNORED]).encode()).hexdigest()


def remembered(now: float) -> str | None:
    """Return why nobody could be asked, or nothing where all was well; None: it is to be asked (again)."""
    try:
        memory = json.loads(MEMORY.read_text())
        is_fresh = memory["of"] == fingerprint() and now < memory["until"]
        return str(memory["unknown"]) if is_fresh else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(unknown: str, now: float) -> None:
    """Keep what came out."""
    until = now + (_UNKNOWN_FOR if unknown else _GOOD_FOR)
    MEMORY.write_text(json.dumps({"of": fingerprint(), "until": until, "unknown": unknown}))


def say(line: str) -> None:
    """Print a line where it can't be taken for output."""
    sys.stderr.write(f"{line}\n")


def main(arguments: Sequence[str]) -> int:
    """Run the audit; return the program's status: 1 for an advisory, 2 where nobody could be asked."""
    is_tolerant, now = "--tolerant" in arguments, time.time()
    reason = remembered(now) if is_tolerant else None
    if reason is None:
        try:
            found = audit()
        except NobodyToAsk as error:
            reason = str(error)
        else:
            for each in found.findings:
                say(f"{each.package} {each.version}: {each.advisory}; fixed in: {each.fixed_in}")
            if found.findings:
                return 1
            say(f"{found.audited} packages audited, no advisory stands against them")
            reason = f"these are not on the index: {', '.join(found.unknown)}" if found.unknown else ""
        remember(reason, now)
    if not reason:
        return 0
    say(f"WARNING: DEPENDENCIES WERE NOT AUDITED: {reason}")
    return 0 if is_tolerant else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
