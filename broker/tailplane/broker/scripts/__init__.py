"""The Lua scripts, one verb a file. `Script` runs one by its digest and loads it where the server does not know it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from tailplane.broker.wire import Wire


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

    def command(self, keys: Sequence[str], args: Sequence[Any]) -> tuple[Any, ...]:
        """Return the command that runs it by its digest."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def text_command(self, keys: Sequence[str], args: Sequence[Any]) -> tuple[Any, ...]:
        """Return the command that runs it where the server does not know it: it will, from then on."""
        return ("EVAL", self.text, len(keys), *keys, *args)

    async def run(self, wire: Wire, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script; a server that has forgotten it (restart, failover) is sent the text.

        Raises:
            StoreUnavailable: as `Wire.run`.
        """
        (reply,) = await wire.call((self.command(keys, args),))
        if isinstance(reply, NoScriptError):
            return await wire.run(*self.text_command(keys, args))
        if isinstance(reply, Exception):
            raise reply
        return reply


APPEND = Script.load("append")
CREATE = Script.load("create")
BEGIN = Script.load("begin")
FINISH = Script.load("finish")
END = Script.load("end")
AWAIT = Script.load("await")
ENQUEUE = Script.load("enqueue")
CLAIM = Script.load("claim")
REQUEUE = Script.load("requeue")
REGISTER = Script.load("register")
RENEW = Script.load("renew")
REAP = Script.load("reap")
