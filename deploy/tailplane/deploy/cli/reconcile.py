"""The command `reconcile`."""

import asyncio
from typing import Annotated

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson
from tailplane.deploy.cli.progress import describe_count

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list what would be queued again.")]


def reconcile(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Queue tasks again that the queue has lost: after Redis was restored from a backup, or lost its last moments.

    Reads every task's record, with the settings of a control plane (TAILPLANE_REDIS_URL, TAILPLANE_STREAMS_URL,
    TAILPLANE_PREFIX) and as a user who may look through the keys. Safe at any time.
    """
    from tailplane.broker.settings import DeploymentSettings
    from tailplane.deploy.reconcile import reconcile as look
    from tailplane.protocol.errors import StoreUnavailable
    from tailplane.protocol.urls import mask_url

    settings = DeploymentSettings()
    try:
        found = asyncio.run(look(settings, mend=not dry_run))
    except StoreUnavailable as error:
        asked = " and ".join(mask_url(url) for url in (settings.redis_url, settings.streams_url) if url)
        error.hint = f"it asked {asked}; TAILPLANE_REDIS_URL and TAILPLANE_STREAMS_URL say where else, and as whom"
        raise
    if as_json:
        strays = [
            {"task_id": stray.task_id, "workflow": stray.workflow, "state": str(stray.state)} for stray in found.strays
        ]
        terminal.print_json({"records": found.records, "queued_again": not dry_run, "strays": strays})
        return
    for stray in found.strays:
        terminal.say(f"{stray.task_id}  {stray.workflow}  {stray.state}")
    what = "would be queued again" if dry_run else "queued again"
    count = describe_count(len(found.strays), "task")
    terminal.say(f"{describe_count(found.records, 'record')} looked at, {count} {what}", stderr=True)
