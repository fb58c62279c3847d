"""The commands about what there is: `workflows`, `workers` and `limits`."""

import time
from collections import Counter
from typing import TYPE_CHECKING

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, Url, ask

if TYPE_CHECKING:
    from tailplane.client import Client, WorkerInfo, WorkflowInfo


def workflows(as_json: AsJson = False, url: Url = None) -> None:
    """List the workflows that workers have registered."""

    async def look(client: "Client") -> "tuple[list[WorkflowInfo], list[WorkerInfo]]":
        return await client.workflows(), await client.workers()

    found, fleet = ask(url, look)
    if as_json:
        terminal.print_json({"workflows": [each.model_dump(exclude_none=True) for each in found]})
        return
    from tailplane.deploy.cli.tables import print_workflows

    print_workflows(found, Counter(name for worker in fleet for name in worker.workflows))
    if not found:
        terminal.say("no worker has registered a workflow; start one: tailplane worker TARGET", stderr=True)


def workers(as_json: AsJson = False, url: Url = None) -> None:
    """List the workers that are alive."""
    found = ask(url, lambda client: client.workers())
    if as_json:
        terminal.print_json({"workers": [each.model_dump(exclude_none=True) for each in found]})
        return
    from tailplane.deploy.cli.tables import print_workers

    print_workers(found, time.time())
    if not found:
        terminal.say("no worker is alive; start one: tailplane worker TARGET", stderr=True)


def limits(as_json: AsJson = False, url: Url = None) -> None:
    """Show what your tenant and API key may take, and what they take now."""
    found = ask(url, lambda client: client.limits())
    if as_json:
        terminal.print_json(found.model_dump(exclude_none=True))
        return
    from tailplane.deploy.cli.tables import print_limits

    print_limits(found)
