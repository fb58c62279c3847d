"""Loopback ports: free ones, and whether a given one is free. An answer is true for a moment only."""

import errno
import secrets
import socket

HOST = "127.0.0.1"

# Below where Linux (32768) and macOS (49152) take the ports of outgoing connections from: one of those could take the
# port of a server that is just starting, or of one that a test has killed and will start again.
_OUTSIDE_EPHEMERAL = range(15_000, 30_000)


def free_port() -> int:
    """Return a loopback port that was free a moment ago, and that no outgoing connection will be given meanwhile."""
    for _ in range(100):
        port = secrets.choice(_OUTSIDE_EPHEMERAL)
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        any_port: int = probe.getsockname()[1]
        return any_port


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could bind the port now; any other trouble with `host` is left for the server to tell."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: connections that linger after their end don't keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def metrics_variable(first: int | None, index: int) -> dict[str, str]:
    """Return the variable that gives the process of this index its port for probes and metrics, from `first` on."""
    return {} if first is None else {"TAILPLANE_METRICS_PORT": str(first + index)}
