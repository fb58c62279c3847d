"""Runs the web servers of examples, and a browser for their pages."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tailplane.deploy.cluster import LocalCluster

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def served(script: Path, port: int, control_plane: str, cluster: LocalCluster, **env: str) -> Iterator[str]:
    """Run a page's server on `port`, and give its address when it answers."""
    url = f"http://127.0.0.1:{port}"
    known = os.environ | {"TAILPLANE_URL": control_plane, "NO_PROXY": "127.0.0.1"} | env
    process = subprocess.Popen([sys.executable, script, "--port", str(port)], env=known)

    def answers() -> bool:
        assert process.poll() is None, "the page's server ended"
        try:
            return httpx2.get(url, trust_env=False).is_success
        except httpx2.TransportError:
            return False

    try:
        cluster.wait_until(answers, "the page's server answered")
        yield url
        process.terminate()
        # With a stream open or not: it ends when it is told to.
        process.wait(10)
    finally:
        process.kill()
        process.wait(10)


class Tab:
    """A tab of a headless Chromium, by its DevTools. Its page has an element `status`."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._calls = 0

    def open(self, url: str) -> None:
        """Load a page, to its load event."""
        self._call("Page.enable")
        self._call("Page.navigate", url=url)
        self._receive(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Run a script in the page, await its promise, and return its value."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for_status(self, pattern: str) -> str:
        """Wait until the page's status line matches, and return it."""
        return self.run(
            f"""new Promise((resolve) => {{
                const status = document.getElementById("status");
                const look = () => /{pattern}/.test(status.textContent) && resolve(status.textContent);
                new MutationObserver(look).observe(status, {{childList: true, characterData: true, subtree: true}});
                look();
            }})"""
        )

    def _call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        return self._receive(lambda message: message.get("id") == self._calls)["result"]

    def _receive(self, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not is_wanted(message := json.loads(self._socket.recv(timeout=60))):
            pass
        return message


@contextmanager
def browser_tab(profile: Path) -> Iterator[Tab]:
    """Start a browser with a profile of its own, or skip the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    client = pytest.importorskip("websockets.sync.client", reason="the DevTools need the package websockets")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server", "--remote-debugging-port=0"]
    command = [CHROMIUM, *options, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as browser:
        try:
            assert browser.stderr is not None
            address = next(match[1] for line in browser.stderr if (match := re.search(r"ws://([^/]+)/", line)))
            tabs = httpx2.get(f"http://{address}/json/list", trust_env=False).json()
            tab = next(tab for tab in tabs if tab["type"] == "page")
            with client.connect(tab["webSocketDebuggerUrl"], proxy=None) as socket:
                yield Tab(socket)
        finally:
            browser.kill()
