"""A virtual environment for each peer in `benchmarks/.peers`, so that its packages and ours never meet.

Versions are pinned: a figure in a table is of one version.
"""

import shutil
import subprocess
import sys
from pathlib import Path

_HOME = Path(__file__).parents[2] / ".peers"


def python_of(name: str) -> str:
    """Return where the interpreter of the peer's environment is, installed or not."""
    return str(_HOME / name / "bin" / "python")


def install(name: str, requirements: tuple[str, ...]) -> str:
    """Install the requirements into the environment of that name, unless they are there; return its interpreter."""
    stamp = _HOME / name / "installed.txt"
    wanted = "".join(f"{requirement}\n" for requirement in requirements)
    python = python_of(name)
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(stamp.parent, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(stamp.parent)], check=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "-qq"]
        subprocess.run([*pip, "install", *requirements], check=True)
        stamp.write_text(wanted)
    return python
