"""The command `doctor`."""

from typing import Annotated

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, Url
from tailplane.deploy.cli.progress import describe_count

RedisUrl = Annotated[
    str | None,
    typer.Option(envvar="TAILPLANE_REDIS_URL", help="Redis or Valkey.", show_default="redis://127.0.0.1:6379/0"),
]
StreamsUrl = Annotated[
    str | None, typer.Option(envvar="TAILPLANE_STREAMS_URL", help="The Redis Cluster that has the streams, if any.")
]


def doctor(
    url: Url = None, redis_url: RedisUrl = None, streams_url: StreamsUrl = None, as_json: AsJson = False
) -> None:
    """Say what is wrong with this installation, the control plane or Redis, and how to mend it."""
    import dataclasses
    import os
    from collections import Counter

    from tailplane.deploy.doctor import Verdict, diagnose

    findings = []
    for finding in diagnose(url, redis_url, streams_url, os.environ.get("TAILPLANE_API_KEY", "").strip() or None):
        findings.append(finding)
        if not as_json:
            _print(finding.check, finding.verdict, finding.detail, finding.remedy)
    count = Counter(finding.verdict for finding in findings)
    is_healthy = not count[Verdict.FAILURE]
    if as_json:
        terminal.print_json({"healthy": is_healthy, "findings": [dataclasses.asdict(each) for each in findings]})
    else:
        failures = describe_count(count[Verdict.FAILURE], "failure")
        terminal.say(f"\n{failures}, {describe_count(count[Verdict.WARNING], 'warning')}")
    raise typer.Exit(0 if is_healthy else 1)


def _print(check: str, verdict: str, detail: str, remedy: str | None) -> None:
    from rich.text import Text

    colour = {"ok": "green", "warning": "yellow", "failure": "bold red", "skipped": "dim"}[verdict]
    line = Text.assemble((f"{verdict:<8}", colour), f"{check:<20}", terminal.printable(detail))
    out = terminal.console()
    out.print(line)
    if remedy:
        out.print(Text(f"{'':<8}{'':<20}-> {remedy}", style="dim"))
