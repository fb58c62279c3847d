"""All kinds of callers of the access matrix, and the things that their requests name."""

import base64
import dataclasses
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from tailplane.broker import Broker, SessionRef, TaskRef
from tailplane.broker.api_keys import KeyRecord, NewKey
from tailplane.broker.revoked_tokens import Revoked
from tailplane.protocol.credentials import ApiKey, SignedToken, StreamToken, new_token_id
from tailplane.protocol.ids import KeyId, SessionId, TaskId, new_key_id, new_session_id, new_task_id
from tailplane.protocol.scopes import Action, Scope
from tests.contract.http.bare_call import Answer, call

OURS, THEIRS = "ours", "theirs"
EVERYTHING = frozenset(Action)
# Is in what the requests name, and in none of them.
CONTENT = "what only readers are told"
ERROR = {"code": "workflow_error", "type": "builtins.ValueError", "message": CONTENT}


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, and what is kept of it."""

    record: KeyRecord
    text: str


@dataclass(frozen=True, slots=True)
class Things:
    """What a request names. All of it is there, but for that of `nobody`."""

    task: TaskId
    session: SessionId
    name: str
    other_task: TaskId
    other_session: SessionId
    key: KeyId
    token: str

    @classmethod
    def nobodys(cls) -> "Things":
        # In the order of the attributes.
        return cls(
            new_task_id(),
            new_session_id(),
            fresh_name(),
            new_task_id(),
            new_session_id(),
            new_key_id(),
            new_token_id(new_key_id()),
        )

    def url(self, path: str) -> str:
        """Return where a route's path leads with these."""
        name = "echo" if path.startswith("/v1/workflows/") else self.name
        return path.format(
            task_id=self.task, session_id=self.session, name=name, key="plan", key_id=self.key, token_id=self.token
        )


def fresh_name() -> str:
    return f"n-{uuid.uuid4().hex}"


@dataclass
class Callers:
    """Keys of two tenants, and what is done with them."""

    app: FastAPI
    broker: Broker
    keys: dict[str, Key] = field(default_factory=dict)
    revoked_token: str = ""

    async def prepare(self) -> None:
        """Make the keys."""
        for scope in Scope:
            self.keys[scope] = await self._key(OURS, [scope])
        self.keys["submit+read"] = await self._key(OURS, [Scope.SUBMIT, Scope.READ])
        self.keys["foreign"] = await self._key(THEIRS, list(Scope))
        self.keys["expired"] = await self._key(OURS, list(Scope), expires_in=timedelta(seconds=-1))
        self.keys["revoked"] = await self._key(OURS, list(Scope))
        await self.broker.api_keys.revoke(self.keys["revoked"].record.key_id)
        self.revoked_token = new_token_id(self.keys[Scope.ADMIN].record.key_id)
        await self.app.state.services.doorkeeper.revocations.revoke(Revoked(OURS, self.revoked_token))
        for name, grace in (("in grace", timedelta(minutes=10)), ("after grace", timedelta(seconds=-1))):
            old = self.keys[name] = await self._key(OURS, list(Scope))
            _, new = await self.broker.api_keys.rotate(old.record.key_id, grace)
            self.keys[f"rotated, {name}"] = Key(old.record, new.text)

    async def things(self) -> Things:
        """Make new things of our tenant: a failed task's id stands beside one that waits."""
        sessions, tasks = [], []
        said = {"workflow": "echo", "input": {CONTENT: CONTENT}, "metadata": {"told": CONTENT}}
        for _ in range(2):
            made = await self.ask("POST", "/v1/sessions", {"metadata": {"told": CONTENT}})
            sessions.append(SessionId(made["session_id"]))
            made = await self.ask("POST", f"/v1/sessions/{sessions[-1]}/tasks", {**said, "concurrency_key": CONTENT})
            tasks.append(TaskId(made["task_id"]))
        name = fresh_name()
        await self.ask("PUT", f"/v1/schedules/{name}", {**said, "cron": "0 4 * * *"})
        key = (await self._key(OURS, [Scope.READ])).record.key_id
        return Things(
            tasks[0], sessions[0], name, tasks[1], sessions[1], key, new_token_id(self.keys[Scope.ADMIN].record.key_id)
        )

    async def fail(self, task: TaskId) -> None:
        """Let a task be a dead letter."""
        ref = TaskRef(task, OURS)
        await self.broker.tasks.fail(ref, 0, ERROR)
        await self.broker.catalogue.note_dead(ref)

    async def ask(self, method: str, url: str, body: Any = None, key: str = Scope.ADMIN) -> Any:
        """Return the answer to a request that must succeed, with one of the keys."""
        answer = await self.call(method, url, bearer(self.keys[key].text), body)
        assert answer.status < 300, answer.body
        return answer.json() if answer.body else None

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: Any = None) -> Answer:
        return await call(self.app, method, url, headers=headers, json_body=body)

    async def standing(self, things: Things) -> list[Any]:
        """Return what a request that is refused must leave as it is."""
        task = TaskRef(things.task, OURS)
        return [
            await self.broker.tasks.read(task, ("state", "attempt", "messages")),
            await self.broker.catalogue.session(OURS, things.session),
            await self.broker.catalogue.dead_letter_ids(OURS, None, 1000),
            await self.broker.states.all(SessionRef(things.session, OURS)),
            await self.broker.schedules.read_many(OURS, [things.name]),
            await self.broker.api_keys.read(things.key),
            await self.broker.catalogue.task_ids(OURS, None, None, 10_000),
        ]

    def admitted(self, things: Things, path: str) -> dict[str, tuple[dict[str, str], str]]:
        """Return the columns of the matrix: of each the headers, and what is put behind the URL."""
        in_session = "{session_id}" in path
        subject = things.session if in_session else things.task
        tokens = {
            **{f"task {action}": self.token(things.task, [action]) for action in Action},
            **{f"session {action}": self.token(things.session, [action]) for action in Action},
            "other task": self.token(things.other_task, EVERYTHING),
            "other session": self.token(things.other_session, EVERYTHING),
            "theirs": self.token(subject, EVERYTHING, key="foreign"),
        }
        keys = [*Scope, "submit+read", "foreign"]
        query = f"?token={self.token(subject, EVERYTHING)}"
        return {
            **{name: (bearer(self.keys[name].text), "") for name in keys},
            **{name: (bearer(token), "") for name, token in tokens.items()},
            "query": ({}, query),
        }

    def rotated(self) -> dict[str, dict[str, str]]:
        """Return the callers who come with a secret of a rotated key that is good."""
        return {
            "the secret before a rotation, within its grace": bearer(self.keys["in grace"].text),
            "the secret after a rotation": bearer(self.keys["rotated, after grace"].text),
        }

    def refused(self, things: Things, path: str) -> dict[str, tuple[dict[str, str], str]]:
        """Return the callers whom nobody lets in: of each the headers, and what is put behind the URL."""
        subject = things.session if "{session_id}" in path else things.task
        admin, nobodys = self.keys[Scope.ADMIN], ApiKey.draw(new_key_id()).text
        good = self.token(subject, EVERYTHING)
        credentials = {
            "an empty credential": "",
            "a malformed key": "tp_x",
            "a key that nobody has": nobodys,
            "a key with another one's secret": admin.text[:30] + self.keys["foreign"].text[30:],
            "an expired key": self.keys["expired"].text,
            "a revoked key": self.keys["revoked"].text,
            "the secret before a rotation, after its grace": self.keys["after grace"].text,
            "a malformed token": "tps_x.y",
            "an expired token": self.token(subject, EVERYTHING, lasts=-1.0),
            "a token whose claims were changed": _altered(good),
            "a revoked token": self.token(subject, EVERYTHING, token_id=self.revoked_token),
            "a token of a revoked key": self.token(subject, EVERYTHING, key="revoked"),
            "a token of an expired key": self.token(subject, EVERYTHING, key="expired"),
            "a token for this tenant, signed with another one's key": self.token(
                subject, EVERYTHING, key="foreign", tenant=OURS
            ),
            "a token of no key": self.token(subject, EVERYTHING, key=None),
        }
        return {
            "no credential": ({}, ""),
            "another scheme": ({"Authorization": "Basic " + base64.b64encode(admin.text.encode()).decode()}, ""),
            "a key in the query": ({}, f"?token={admin.text}"),
            **{name: (bearer(text), "") for name, text in credentials.items()},
        }

    def token(
        self,
        subject: TaskId | SessionId,
        actions: Collection[Action],
        *,
        key: str | None = Scope.ADMIN,
        tenant: str | None = None,
        token_id: str | None = None,
        lasts: float = 600.0,
    ) -> str:
        """Return a stream token that one of the keys has signed; `lasts` in seconds; no `key`: nobody has."""
        record = None if key is None else self.keys[key].record
        said = StreamToken(
            token_id=token_id or new_token_id(record.key_id if record else None),
            tenant=tenant or (record.tenant if record else OURS),
            key_id=record.key_id if record else None,
            subject=subject,
            actions=frozenset(actions),
            expires_ms=int((time.time() + lasts) * 1000),
        )
        return said.sign(record.signing if record else b"")

    async def _key(self, tenant: str, scopes: list[Scope], expires_in: timedelta | None = None) -> Key:
        new = NewKey(tenant=tenant, name="matrix", scopes=frozenset(scopes), expires_in=expires_in)
        record, key = await self.broker.api_keys.create(new)
        return Key(record, key.text)


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def _altered(token: str) -> str:
    """Return a token that opens another task or session, with the signature of this one."""
    claimed = SignedToken.parse(token).claimed
    other = new_task_id() if claimed.subject.startswith("t") else new_session_id()
    claims = dataclasses.replace(claimed, subject=other).sign(b"x").rpartition(".")[0]
    return f"{claims}.{token.rpartition('.')[2]}"
