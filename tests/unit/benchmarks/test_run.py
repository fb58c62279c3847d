"""The harness at its smallest: real systems, small sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.process
def test_a_quick_run_measures_both_systems(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks", "run", "--quick", "--workloads", "W1,W2"]
    command += ["--systems", "tailplane,by_hand", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    [file] = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    assert [(row["workload"], row["system"]) for row in rows] == [
        ("W1", "tailplane"),
        ("W1", "by_hand"),
        ("W2", "tailplane"),
        ("W2", "by_hand"),
    ]
    assert all(0 < case["p50_ms"] <= case["p99_ms"] for row in rows for case in row["cases"].values())
    assert "| one task | p50_ms |" in file.with_suffix(".md").read_text()
