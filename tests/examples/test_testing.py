"""The tests that users copy pass, by the command that they are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What an environment may have that is meant for another deployment.
ELSEWHERE = {"TAILPLANE_AUTH": "keys", "TAILPLANE_HOST": "0.0.0.0", "TAILPLANE_API_KEY": "tp_of_another_deployment"}


@pytest.mark.process
@pytest.mark.parametrize("more", [{}, ELSEWHERE], ids=["as it is", "signed in elsewhere"])
def test_the_example_tests_pass_in_a_project_of_their_own(examples: Path, tmp_path: Path, more: dict[str, str]) -> None:
    for path in (examples / "testing").glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    # The async test may run once for each event loop that anyio finds installed.
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
