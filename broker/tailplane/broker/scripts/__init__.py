"""The Lua scripts, one verb a file. `Script` runs one by its digest and loads it where the server does not know it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from tailplane.broker.wire import Wire, raise_refusals


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

    async def run(self, wire: Wire, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script; a server that has forgotten it (restart, failover) is sent the text.

        Raises:
            StoreUnavailable: as `Wire.run`.
        """
        (reply,) = await self.run_many(wire, [(keys, args)])
        return reply

    async def run_many(self, wire: Wire, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run the script once for each pair of keys and arguments, in one round trip, and return the replies.

        Raises:
            StoreUnavailable: as `Wire.run`; some of the calls may have been carried out.
        """
        replies = await wire.call([("EVALSHA", self.sha, len(keys), *keys, *args) for keys, args in calls])
        for i, (keys, args) in enumerate(calls):
            if isinstance(replies[i], NoScriptError):
                # The server knows the script from then on.
                replies[i] = await wire.run("EVAL", self.text, len(keys), *keys, *args)
        raise_refusals(replies)
        return replies


APPEND = Script.load("append")
TRIM = Script.load("trim")
REPAIR = Script.load("repair")
CREATE = Script.load("create")
BEGIN = Script.load("begin")
FINISH = Script.load("finish")
END = Script.load("end")
AWAIT = Script.load("await")
ENQUEUE = Script.load("enqueue")
CLAIM = Script.load("claim")
REQUEUE = Script.load("requeue")
NOTE_DEAD = Script.load("note_dead")
REGISTER = Script.load("register")
RENEW = Script.load("renew")
REAP = Script.load("reap")
