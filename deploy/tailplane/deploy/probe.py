"""Small questions to a program, answered now or not at all: is it ready, which workers does it know.

For readiness and the doctor, where the client's retries and its import time would be in the way. As a command it is a
container's health check, in an image that has no curl: `python -m tailplane.deploy.probe http://127.0.0.1:9464/livez`
exits with 0 where the answer is 200, else with 1.
"""

import http.client
import json
import sys
from typing import Any
from urllib.parse import urlsplit


def get_json(url: str, path: str, timeout: float = 1.0, api_key: str | None = None) -> tuple[int, Any] | None:
    """Return status and JSON body (None if it is not JSON) of a GET; None if nobody answers HTTP there, or can.

    Proxies of the environment are not used.

    Args:
        api_key: signs the question; None: it is not signed.
    """
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    try:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    except (ValueError, http.client.HTTPException):
        return None
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    # ValueError: a host that is none.
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    try:
        return answer.status, json.loads(body)
    except ValueError:
        return answer.status, None


def is_ready(url: str, timeout: float = 1.0) -> bool:
    """Whether the control plane at `url` takes requests."""
    answer = get_json(url, "/readyz", timeout)
    return answer is not None and answer[0] == 200


def list_items(url: str, what: str, timeout: float = 1.0, api_key: str | None = None) -> list[dict[str, Any]] | None:
    """Return the `workers` or `workflows` that the control plane knows; None if it does not say."""
    answer = get_json(url, f"/v1/{what}", timeout, api_key)
    if answer is None or answer[0] != 200 or not isinstance(answer[1], dict):
        return None
    items = answer[1].get(what)
    return items if isinstance(items, list) else None


def worker_pids(url: str, timeout: float = 1.0, api_key: str | None = None) -> set[int]:
    """Return the process ids of the workers that the control plane knows; empty if it doesn't say.

    Args:
        api_key: an admin's of the tenant `default`: others are not told.
    """
    return {worker["pid"] for worker in list_items(url, "workers", timeout, api_key) or () if "pid" in worker}


def main(arguments: list[str]) -> int:
    """Ask the URL that is given; say what it answered; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tailplane.deploy.probe URL\n")
        return 2
    parts = urlsplit(arguments[0])
    answer = get_json(f"{parts.scheme}://{parts.netloc}", parts.path, timeout=3.0)
    if answer is None:
        sys.stderr.write(f"nobody answers at {arguments[0]}\n")
        return 1
    sys.stdout.write(f"{answer[0]} {json.dumps(answer[1])}\n")
    return 0 if answer[0] == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
