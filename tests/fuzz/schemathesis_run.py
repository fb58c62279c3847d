"""schemathesis, with an API key, against a control plane: requests by the OpenAPI document, well-formed and not."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tailplane.deploy.cluster import LocalCluster
from tailplane.protocol.credentials import ApiKey
from tests.fuzz.http_server import look, memory, new_key, plan
from tests.fuzz.measure import Outcome

__all__ = ["command", "environment", "new_key", "plan", "run"]

NAME = "schemathesis, to a control plane"
HOOKS = Path(__file__).parents[1] / "integration"
_GENERATED = re.compile(r"(\d[\d,]*) generated")
_LONGEST = 3600


def command(url: str, key: str, examples: int, seed: int) -> list[str]:
    """Return how schemathesis is called; streams that never end are left out."""
    return [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--checks", "not_a_server_error,ignored_auth", "--max-examples", str(examples), "--seed", str(seed)),
        *("--header", f"Authorization: Bearer {key}", "--no-color", "--request-timeout", "90"),
        *("--exclude-path-regex", "/events$|/stream$"),
    ]


def environment(key: str) -> dict[str, str]:
    """Return what schemathesis needs beside its command line; its directory is that of the hooks."""
    ours = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "SCHEMATHESIS_KEY_ID": ApiKey.parse(key).key_id}
    return os.environ | ours


def run(examples: int, seed: int, say: Callable[[str], None]) -> Outcome:
    """Run it with so many examples of each operation."""
    outcome, key = Outcome(NAME), new_key()
    with LocalCluster(plan(key)) as cluster:
        before, began = memory(cluster), time.perf_counter()
        done = subprocess.run(
            command(cluster.url, key, examples, seed),
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
            cwd=HOOKS,
            env=environment(key),
        )
        outcome.seconds = time.perf_counter() - began
        outcome.peak_bytes = memory(cluster) - before
        found = _GENERATED.search(done.stdout)
        outcome.inputs = int(found[1].replace(",", "")) if found else 0
        if done.returncode != 0 or not outcome.inputs:
            outcome.note(done.stdout[-6000:].encode(), done.stderr[-2000:])
        look(cluster, key, outcome)
    say(f"{NAME}: {outcome.inputs:,} inputs, {len(outcome.findings)} findings")
    return outcome
