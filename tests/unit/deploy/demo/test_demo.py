"""`tailplane demo`, whole."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow]


def demo(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tailplane.deploy", "demo", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_shows_a_real_analysis_and_ends_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for index in range(6):
        (folder / f"{index}.md").write_text(f"# Title\n\nThe stream of file {index} ends. It was short.\n")
    (folder / "binary.txt").write_bytes(b"\0\1")
    done = demo(str(folder), "--pause", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 texts" not in done.stdout
    assert re.search(
        r"^ +\d+ +-?[\d.,]+ ms  0\.md: 9 words, 3 sentences, 1 heading, 0 links", done.stdout, re.MULTILINE
    )
    assert "binary.txt: skipped, binary" in done.stdout
    assert "7 of 7" in done.stdout
    assert re.search(r"found 7 files with \d+ bytes", done.stdout)
    assert re.search(r"skipped +1 file$", done.stdout, re.MULTILINE)
    assert re.search(r"frequent words +.*stream \(6\)", done.stdout)
    assert re.search(r"^.*\b6\b.*\b54\b.*\b\d+\b.* ms.* ms", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == [folder]


def test_without_a_path_and_without_texts_here_it_takes_its_own_sources(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o500)
    done = demo("--pause", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "taking Tailplane's own sources instead" in done.stderr
    assert "median delay" in done.stdout
