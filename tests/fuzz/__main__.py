"""`python -m tests.fuzz`: a run of any size. Ends with 1 where an input broke a promise, and says which."""

import argparse
import secrets
import sys
from pathlib import Path

from tests.fuzz import http_server, report, schemathesis_run
from tests.fuzz.measure import Outcome, run
from tests.fuzz.targets import TARGETS

# Of all inputs, those that go over HTTP: they take a hundred times as long.
_OVER_HTTP = 0.25
# schemathesis makes some hundreds of cases for each example that it may make of an operation, on top of the inputs.
_INPUTS_AN_EXAMPLE = 2000


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def throw(inputs: int, seed: int) -> list[Outcome]:
    """Throw so many inputs at all targets."""
    over_http = round(inputs * _OVER_HTTP)
    each = -(-(inputs - over_http) // len(TARGETS))
    outcomes = [told(run(target, each, seed, say)) for target in TARGETS]
    outcomes.append(told(http_server.run(over_http, seed, say)))
    outcomes.append(told(schemathesis_run.run(max(1, inputs // _INPUTS_AN_EXAMPLE), seed, say)))
    return outcomes


def told(outcome: Outcome) -> Outcome:
    """Return an outcome whose findings were printed: whoever stops a long run has those of what was done."""
    for finding in outcome.findings:
        say(f"\n{finding.target}: {finding.what}\n{finding.data[:4000]!r}\n")
    return outcome


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many, over all targets (100000)")
    parser.add_argument("--seed", type=int, help="repeats an earlier run (drawn)")
    parser.add_argument("--report", type=Path, help="a page that takes the figures between its marks")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    say(f"seed {seed}")
    outcomes = throw(given.inputs, seed)
    made = report.table(outcomes, seed)
    say(f"\n{made}")
    if given.report:
        given.report.write_text(report.put_into(given.report.read_text(), made))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
