"""The Lua scripts, one verb a file. `Script` runs one by its digest and loads it where the server does not know it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from tailplane.broker.store import Store
from tailplane.broker.wire import raise_refusals


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text and digest."""

    name: str
    text: str
    sha: str

    @classmethod
    def load(cls, name: str, shared: str | None = None) -> "Script":
        """Return the script of that name, read from the package, behind the text `shared` that several have."""
        folder = resources.files(__package__)
        text = (folder / f"{name}.lua").read_text("utf-8")
        if shared:
            text = (folder / "shared" / f"{shared}.lua").read_text("utf-8") + text
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, store: Store, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script; a server that has forgotten it (restart, failover) is sent the text.

        Raises:
            StoreUnavailable: as `Store.run`.
        """
        (reply,) = await self.run_many(store, [(keys, args)])
        return reply

    async def run_many(self, store: Store, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run the script once for each pair of keys and arguments, in one round trip, and return the replies.

        Raises:
            StoreUnavailable: as `Store.run`; some of the calls may have been carried out.
        """
        replies = await self.try_many(store, calls)
        raise_refusals(replies)
        return replies

    async def try_many(self, store: Store, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Do as `run_many`; but a call that is refused, or whose server does not answer, has that as its reply."""
        replies = await store.call([("EVALSHA", self.sha, len(keys), *keys, *args) for keys, args in calls])
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # The server knows the script from then on.
            texts = [("EVAL", self.text, len(calls[at][0]), *calls[at][0], *calls[at][1]) for at in unknown]
            for at, reply in zip(unknown, await store.call(texts), strict=True):
                replies[at] = reply
        return replies


APPEND = Script.load("append")
TRIM = Script.load("trim")
REPAIR = Script.load("repair")
CREATE = Script.load("create")
BEGIN = Script.load("begin")
FINISH = Script.load("finish")
END = Script.load("end")
AWAIT = Script.load("await")
JUDGE = Script.load("judge")
DELIVER = Script.load("deliver")
ENQUEUE = Script.load("enqueue", "terms")
CLAIM = Script.load("claim", "terms")
REQUEUE = Script.load("requeue", "terms")
PARK = Script.load("park", "terms")
UNPARK = Script.load("unpark", "terms")
ACKNOWLEDGE = Script.load("acknowledge", "terms")
WITHDRAW = Script.load("withdraw", "terms")
ADMIT = Script.load("admit", "terms")
SCHEDULE = Script.load("schedule")
FIRE = Script.load("fire", "terms")
PASS_OVER = Script.load("pass_over")
PAUSE = Script.load("pause")
RESUME = Script.load("resume")
NOTE_DEAD = Script.load("note_dead")
SET_STATE = Script.load("set_state")
ROTATE_KEY = Script.load("rotate_key")
REVOKE_KEY = Script.load("revoke_key")
REGISTER = Script.load("register")
RENEW = Script.load("renew")
REAP = Script.load("reap", "terms")
TAKE_SUBMIT = Script.load("take_submit", "level")
TELL_READERS = Script.load("tell_readers")
NOTE_STORED = Script.load("note_stored")
