"""The table of metrics in docs/observability.md is the programs' own."""

import re
from pathlib import Path

from tailplane.control_plane.metrics import ROWS as CONTROL_PLANE
from tailplane.workers.metrics import ROWS as WORKER

DOCUMENT = (Path(__file__).parents[4] / "docs" / "observability.md").read_text()


def test_the_tables_have_every_metric_of_each_program_and_no_other() -> None:
    for title, rows in (("What a control plane tells", CONTROL_PLANE), ("What a worker tells", WORKER)):
        _, _, section = DOCUMENT.partition(f"### {title}\n")
        told = re.findall(
            r"^\| `(tailplane_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", section.partition("\n### ")[0], re.MULTILINE
        )
        labels = [", ".join(f"`{label}`" for label in row.labels) for row in rows]
        assert told == [(row.name, row.kind, label, row.help) for row, label in zip(rows, labels, strict=True)]
