"""A page that reads with tokens: its script, under node, which has fetch and EventSource, against real processes."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tailplane.client import SyncClient
from tailplane.deploy.cluster import LocalCluster, Plan
from tailplane.deploy.ports import free_port
from tailplane.protocol.credentials import ApiKey, SignedToken
from tailplane.protocol.ids import new_key_id

from .sites import Tab, served

pytestmark = pytest.mark.process

NODE = shutil.which("node")
KEY = ApiKey.draw(new_key_id())
PORT = free_port()
ORIGIN = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def cluster(examples: Path) -> Iterator[LocalCluster]:
    plan = Plan(
        target=str(examples / "browser_tokens/workflow.py"), api_key=KEY.text, env={"TAILPLANE_CORS_ORIGINS": ORIGIN}
    )
    with LocalCluster(plan) as running:
        yield running


@pytest.fixture(scope="module")
def backend(cluster: LocalCluster, examples: Path) -> Iterator[str]:
    with served(examples / "browser_tokens/backend.py", PORT, cluster.url, cluster, TAILPLANE_API_KEY=KEY.text) as url:
        yield url


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[SyncClient]:
    with SyncClient(cluster.url, api_key=KEY.text) as client:
        yield client


class Page:
    """The page's script, under node."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []

    def read_until(self, name: str) -> Any:
        """Return the value of what it says next under this name."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(json.loads(line))
            if name in self.said[-1]:
                return self.said[-1][name]
        raise AssertionError(f"it said no {name}: {self.said[-3:]}")

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)

    def all(self, name: str) -> list[Any]:
        return [each[name] for each in self.said if name in each]


@contextmanager
def page_of(backend: str, script: Path, start: int, pause: float) -> Iterator[Page]:
    if NODE is None:
        pytest.skip("no node on this machine")
    follow = Path(__file__).with_name("follow.mjs")
    command = [NODE, "--experimental-eventsource", "--no-warnings", follow, backend, script, str(start), str(pause)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Page(process)
        finally:
            process.kill()


def test_a_page_reads_on_through_the_ends_of_its_tokens_and_answers(
    backend: str, examples: Path, admin: SyncClient, cluster: LocalCluster
) -> None:
    with page_of(backend, examples / "browser_tokens/tail.js", start=60, pause=0.1) as page:
        task_id = page.read_until("taskId")
        for _ in range(2):
            token = page.read_until("token")
            for _ in range(5):
                page.read_until("seq")
            admin.revoke_token(SignedToken.parse(token).claimed.token_id)
        page.read_until("token")
        while not (data := page.read_until("data")) or "question" not in data:
            pass
        page.tell("answer")
        assert page.read_until("end") == "task.succeeded"
    seqs = page.all("seq")
    assert seqs == list(range(1, len(seqs) + 1))
    written = [each["data"] for each in page.said if "data" in each and "type" not in each]
    numbers = [data["number"] for data in written if "number" in data]
    assert numbers == list(range(60, 0, -1))
    assert len(set(page.all("token"))) == 3
    assert admin.task(task_id).result(timeout=30) == "lift-off"
    # What was in URLs is in nobody's log.
    logs = "".join(path.read_text() for path in cluster.log_dir.iterdir())
    assert not [token for token in page.all("token") if token[-20:] in logs]


def test_a_visitor_gets_tokens_for_their_own_tasks_only(backend: str) -> None:
    with (
        httpx2.Client(base_url=backend, trust_env=False, timeout=30) as one,
        httpx2.Client(base_url=backend, trust_env=False, timeout=30) as other,
    ):
        task_id = one.post("/launches", json={"start": 1, "pause": 0}).json()["task_id"]
        assert other.post("/launches", json={"start": 1, "pause": 0}).status_code == 201
        issued = one.post(f"/launches/{task_id}/token")
        assert (issued.status_code, issued.headers["cache-control"]) == (201, "no-store")
        assert issued.json()["token"].startswith("tps_")
        assert other.post(f"/launches/{task_id}/token").status_code == 404
        assert other.post("/launches/t_00000000000000000000000000/token").status_code == 404


def test_what_the_control_plane_refuses_is_told_to_the_page(backend: str) -> None:
    refused = httpx2.post(f"{backend}/launches", json="ten", trust_env=False, timeout=30)
    assert (refused.status_code, refused.json()["detail"]) == (
        502,
        'the input does not fit launch: the value is not of type "object"',
    )


def test_the_page_is_told_what_is_wrong_beside_its_token(backend: str, examples: Path, tmp_path: Path) -> None:
    """A task that is not there is no reason to fetch tokens for ever."""
    if NODE is None:
        pytest.skip("no node on this machine")
    script = tmp_path / "nobody.mjs"
    script.write_text(
        f"""
        import {{ TaskTail }} from {json.dumps(str(examples / "browser_tokens/tail.js"))};
        let asked = 0;
        new TaskTail({{
          controlPlane: {json.dumps(backend)}, taskId: "t_x",
          getToken: async () => {{ asked += 1; return "tps_x"; }},
          onTrouble(error) {{ console.log(JSON.stringify([asked, error.message])); process.exit(0); }},
        }});
        """
    )
    command = [NODE, "--experimental-eventsource", "--no-warnings", script]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert json.loads(said) == [1, "HTTP 404"]


def test_the_page_loads_nothing_from_elsewhere_and_tells_nobody_its_url(backend: str) -> None:
    with httpx2.Client(base_url=backend, trust_env=False) as http:
        page, script = http.get("/"), http.get("/tail.js")
    assert page.headers["content-type"].startswith("text/html")
    # A browser takes a module of no other type.
    assert script.headers["content-type"].startswith("text/javascript")
    assert 'from "./tail.js"' in page.text
    assert '<meta name="referrer" content="no-referrer">' in page.text
    assert not re.search(r"""https?://|\bsrc=|href="(?!data:)""", page.text)


ISSUED = """(() => {
    const post = window.fetch;
    window.issued = [];
    window.fetch = async (...call) => {
        const response = await post(...call);
        if (String(call[0]).endsWith("/token")) window.issued.push((await response.clone().json()).token);
        return response;
    };
})()"""
TOKEN = """new Promise((resolve) => {{
    const look = () => window.issued.length > {0} ? resolve(window.issued[{0}]) : setTimeout(look, 20);
    look();
}})"""


def test_a_browser_reads_another_origin_through_the_end_of_its_token_and_answers(
    backend: str, tab: Tab, admin: SyncClient
) -> None:
    tab.open(backend)
    tab.wait_for_status("^ready$")
    tab.run(ISSUED)
    tab.run("""document.getElementById("start").click()""")
    tab.wait_for_status("^live$")
    admin.revoke_token(SignedToken.parse(tab.run(TOKEN.format(0))).claimed.token_id)

    assert "?" in tab.wait_for_status("[?]$|Error")
    assert tab.run(TOKEN.format(1)) != tab.run(TOKEN.format(0))
    tab.run("""document.getElementById("yes").click()""")
    assert tab.wait_for_status("^task[.]|Error") == "task.succeeded"

    lines = tab.run("""document.getElementById("events").textContent""").splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert [int(said[1]) for line in lines if (said := re.search(r'{"number":(\d+)}', line))] == [5, 4, 3, 2, 1]


def test_a_browser_keeps_what_it_reads_from_a_page_that_is_not_on_the_list(backend: str, tab: Tab) -> None:
    # The same server under another name: another origin, which TAILPLANE_CORS_ORIGINS does not name.
    tab.open(backend.replace("127.0.0.1", "localhost"))
    tab.wait_for_status("^ready$")
    tab.run("""document.getElementById("start").click()""")

    assert tab.wait_for_status("Error") == "Error: the stream was refused"
    assert tab.run("""document.getElementById("events").textContent""") == ""
