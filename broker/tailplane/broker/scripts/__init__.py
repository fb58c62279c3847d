"""The Lua scripts, one verb a file. `Script` runs one by its digest and loads it where the server does not know it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text and digest."""

    name: str
    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> "Script":
        """Return the script of that name, read from the package."""
        text = (resources.files(__package__) / f"{name}.lua").read_text("utf-8")
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, redis: Redis, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script; a server that has forgotten it (restart, failover) is sent the text."""
        try:
            return await redis.evalsha(self.sha, len(keys), *keys, *args)  # type: ignore[misc]
        except NoScriptError:
            return await redis.eval(self.text, len(keys), *keys, *args)  # type: ignore[misc]


CREATE = Script.load("create")
BEGIN = Script.load("begin")
FINISH = Script.load("finish")
END = Script.load("end")
ENQUEUE = Script.load("enqueue")
CLAIM = Script.load("claim")
REQUEUE = Script.load("requeue")
REGISTER = Script.load("register")
RENEW = Script.load("renew")
REAP = Script.load("reap")
