"""Reads a task's events from a single response: whoever needs a second one has been let go."""

import json
from dataclasses import dataclass, field

import httpx2


@dataclass
class OneResponse:
    """What one response brought.

    Attributes:
        seen: what the workflow wrote.
        last: the type of the last event of the platform.
    """

    seen: list[object] = field(default_factory=list)
    last: str = ""

    async def read(self, http: httpx2.AsyncClient, task_id: str) -> None:
        """Read until the response ends."""
        path, headers = f"/v1/tasks/{task_id}/events", {"Accept": "application/x-ndjson"}
        async with http.stream("GET", path, headers=headers, timeout=None) as response:
            async for line in response.aiter_lines():
                event = json.loads(line) if line else {}
                if event.get("kind") == "platform":
                    self.last = event["type"]
                elif event:
                    self.seen.append(event["data"])
