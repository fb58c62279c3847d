"""What a fuzz run came to, as a table for docs/security.md. No I/O."""

import platform
import resource
from collections.abc import Sequence

from tests.fuzz.measure import Outcome

BEGIN, END = "<!-- fuzz: written by `make fuzz REPORT=docs/security.md` -->", "<!-- end of fuzz -->"
_MIB = 1024 * 1024


def table(outcomes: Sequence[Outcome], seed: int) -> str:
    """Return the table."""
    total = sum(outcome.inputs for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    findings = sum(len(outcome.findings) for outcome in outcomes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [
        "| read by | inputs | taken for good | seconds | slowest input, ms | most memory of an input, MiB | findings |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *map(_row, outcomes),
        f"| all | {total:,} | | {seconds:,.0f} | | | {findings} |",
    ]
    machine = f"Python {platform.python_version()}, {platform.machine()}"
    said = (
        f"Seed {seed}, {machine}. The fuzzer's own process had {peak:,.0f} MiB at its peak. Memory of the rows that\n"
    )
    said += "go to a control plane: by how much its process' peak (VmHWM) rose over the whole run."
    return "\n".join([said, "", *rows, ""])


def _row(outcome: Outcome) -> str:
    slowest = f"{outcome.slowest * 1000:,.0f}" if outcome.slowest else ""
    taken = f"{outcome.taken:,}" if outcome.slowest else ""
    figures = f"{outcome.seconds:,.1f} | {slowest} | {outcome.peak_bytes / _MIB:,.1f} | {len(outcome.findings)}"
    return f"| {outcome.target} | {outcome.inputs:,} | {taken} | {figures} |"


def put_into(page: str, said: str) -> str:
    """Return a page with the table between its marks, in place of the one before."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{said}\n{END}{after}"
