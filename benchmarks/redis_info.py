"""What a Redis says of itself, asked over a bare socket: drivers of other interpreters have no client for it."""

import socket
from urllib.parse import urlsplit


def info(url: str, section: str) -> dict[str, str]:
    """Return the fields of one section of INFO."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname or "127.0.0.1", where.port or 6379), timeout=10) as connection:
        connection.sendall(f"INFO {section}\r\n".encode())
        answer = b""
        while not _is_whole(answer):
            chunk = connection.recv(65536)
            if not chunk:
                raise ConnectionError(f"{url} closed the connection")
            answer += chunk
    lines = answer.decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def memory_bytes(url: str) -> int:
    """Return what the data takes, without what the server itself needs."""
    return int(info(url, "memory")["used_memory_dataset"])


def _is_whole(answer: bytes) -> bool:
    head, mark, body = answer.partition(b"\r\n")
    if not mark:
        return False
    if not head.startswith(b"$"):
        raise ConnectionError(f"INFO was answered with {head!r}")
    return len(body) >= int(head[1:]) + 2
