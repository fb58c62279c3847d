"""No secret of a caller's gets out of a real deployment by its logs, metrics or answers."""

import re
import socket
from collections.abc import Iterator
from urllib.request import urlopen

import httpx2
import pytest

from tailplane.client import SyncClient, TaskFailed
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.ports import HOST
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.ids import new_key_id

from .conftest import WORKFLOWS
from .test_probes import free_ports

pytestmark = pytest.mark.process

KEYS = [ApiKey.draw(new_key_id()) for _ in range(2)]
KEY, OTHER = (key.text for key in KEYS)
TOKEN = "tps_" + "T" * 60 + "." + "U" * 43
SECRETS = (*(key.secret for key in KEYS), "T" * 60, "U" * 43)


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(2)


@pytest.fixture(scope="module")
def guarded(port: int) -> Iterator[LocalCluster]:
    env = {"TAILPLANE_LOG_LEVEL": "debug"}
    with LocalCluster(Plan(target=str(WORKFLOWS), api_key=KEY, metrics_port=port, env=env)) as running:
        yield running


def raw(url: str, request: str) -> str:
    """Send what no HTTP library would, and return what comes back."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.decode()


def test_secrets_stay_where_they_are(guarded: LocalCluster, port: int) -> None:
    answers = []
    with httpx2.Client(base_url=guarded.url, timeout=60) as http:
        for signed in (KEY, OTHER, TOKEN, "hunter2", f"{KEY}x"):
            headers = {"Authorization": f"Bearer {signed}"}
            for method, path in (
                ("GET", "/v1/tasks"),
                ("GET", f"/v1/tasks/{signed}"),
                ("GET", f"/v1/tasks?workflow={signed}&page={signed}"),
                ("GET", f"/v1/tasks/t_01jd3z0v9m6s8k2x4q7w5e1r0t/events?token={TOKEN}&from={signed}"),
                ("GET", f"/{signed}"),
            ):
                answers.append(http.request(method, path, headers=headers))
            body = {"workflow": "count", "input": {"n": 1}, "metadata": {"note": "x"}, signed: 1}
            answers.append(http.post("/v1/tasks", json=body, headers=headers))
            answers.append(http.post("/v1/tasks", content=f"{{{signed}", headers=headers))
            answers.append(http.get("/v1/tasks", headers={"Authorization": f"Basic {signed}"}))
    said = [
        raw(guarded.url, f"GET /{OTHER} HTTP/1.1\r\nX: \0{OTHER}\r\n\r\n"),
        raw(guarded.url, f"{OTHER} / HTTP/1.1\r\n\r\n"),
        raw(guarded.url, f"GET / HTTP/1.1\r\nAuthorization: Bearer {OTHER}\r\nAuthorization: Bearer {KEY}\r\n\r\n"),
    ]
    with SyncClient(guarded.url, api_key=KEY) as client:
        with pytest.raises(TaskFailed):
            client.run_workflow("leave").result(timeout=60)
        assert KEY not in repr(client)

    assert {answer.status_code for answer in answers} >= {200, 401, 404, 422}
    shown = [*(f"{answer.headers}{answer.text}" for answer in answers), *said]
    shown += [urlopen(f"http://{HOST}:{each}/metrics", timeout=60).read().decode() for each in (port, port + 1)]
    logs = [log.read_text() for log in guarded.log_dir.glob("*")]
    assert any("worker starts" in log for log in logs)
    for text in (*shown, *logs):
        for secret in SECRETS:
            assert secret not in text, re.findall(f".*{re.escape(secret)}.*", text)[:3]
    # What was no credential at all is told to who sent it, and to nobody else.
    assert not any("hunter2" in text for text in logs)
