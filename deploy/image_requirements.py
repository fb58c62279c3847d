"""What goes into the container images, read from pyproject.toml.

python deploy/image_requirements.py workers    # the requirements of an install with this extra: an image's layer
python deploy/image_requirements.py --newest   # deploy/constraints.txt: the newest versions that fit, all of them
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

EXTRAS = ("control-plane", "workers")
# That of the images.
_PYTHON = "3.11"
_HEAD = (
    "# The exact versions in the images, so that the same source gives the same image. Made by `make constraints`.\n"
)


def requirements(pyproject: dict[str, Any], *extras: str) -> list[str]:
    """Return the requirements of an install with these extras."""
    project = pyproject["project"]
    return [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]


def newest(wanted: list[str]) -> str:
    """Return constraints that name all packages that `wanted` brings; asks the package index."""
    options = ["--quiet", "--dry-run", "--ignore-installed", "--only-binary", ":all:", "--python-version", _PYTHON]
    command = [sys.executable, "-m", "pip", "install", *options, "--report", "-", *wanted]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    found = [
        (one["metadata"]["name"].lower().replace("_", "-"), one["metadata"]["version"]) for one in report["install"]
    ]
    return _HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(found))


def main(which: str) -> str:
    """Return what the command line asks for."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text())
    if which == "--newest":
        return newest([*requirements(pyproject, *EXTRAS), *pyproject["build-system"]["requires"]])
    return "\n".join(requirements(pyproject, which)) + "\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]))
