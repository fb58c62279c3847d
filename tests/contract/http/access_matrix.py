"""Who may do what: each route and each kind of caller, as the contract has it, and not as the routes say it.

`+` means let in: the answer is the route's own, `ok`. `-` means 403. A number is that status. Columns:

    ok          the status for who is let in
    submit ...  an API key with this scope alone; `s+r` with two: submit and read
    r c a       stream tokens for one action each: read, cancel, answer
    task        of the task that the path names, or of a task of the session that it names
    sess.       of the session of that task, or of the session that the path names
    other t, session    of another task or session of the tenant, for all actions
    theirs      another tenant's, for the task or session that the path names, for all actions
    query       of the task, or the session, for all actions, as `?token=`
    foreign     an API key with all scopes, of another tenant: what is named here is not there for it

What holds of all routes that are not open to all is in `REFUSED`; `OPEN` ones answer everybody.
"""

from dataclasses import dataclass
from typing import Any

_TABLE = """
                                             keys                         task   sess.  other
method path                              ok  submit read cancel admin s+r r c a  r c a  t   session theirs query foreign
POST   /v1/sessions                      201 +      -    -      +     +   - - -  - - -  -   -       -      401   +
GET    /v1/sessions/{session_id}         200 -      +    -      +     +   - - -  + - -  -   -       404    401   404
DELETE /v1/sessions/{session_id}         200 +      -    -      +     +   - - -  - - -  -   -       -      401   404
POST   /v1/sessions/{session_id}/tasks   202 +      -    -      +     +   - - -  - - -  -   -       -      401   404
GET    /v1/sessions/{session_id}/events  200 -      +    -      +     +   - - -  + - -  -   -       404    +     404
GET    /v1/sessions/{session_id}/state   200 -      +    -      +     +   - - -  - - -  -   -       -      401   404
GET    /v1/sessions/{session_id}/state/{key}
                                         200 -      +    -      +     +   - - -  - - -  -   -       -      401   404
PUT    /v1/sessions/{session_id}/state/{key}
                                         200 +      -    -      +     +   - - -  - - -  -   -       -      401   404
POST   /v1/tasks                         202 +      -    -      +     +   - - -  - - -  -   -       -      401   +
GET    /v1/tasks                         200 -      +    -      +     +   - - -  - - -  -   -       -      401   +
GET    /v1/tasks/{task_id}               200 -      +    -      +     +   + - -  + - -  -   404     404    401   404
POST   /v1/tasks/{task_id}/cancel        200 -      -    +      +     -   - + -  - + -  -   404     404    401   404
GET    /v1/tasks/{task_id}/result        202 -      +    -      +     +   + - -  + - -  -   404     404    401   404
GET    /v1/tasks/{task_id}/events        200 -      +    -      +     +   + - -  + - -  -   404     404    +     404
POST   /v1/tasks/{task_id}/events        202 +      -    -      +     +   - - +  - - +  -   404     404    401   404
GET    /v1/tasks/{task_id}/steps         200 -      +    -      +     +   + - -  + - -  -   404     404    401   404
POST   /v1/workflows/{name}/stream       200 -      -    -      +     +   - - -  - - -  -   -       -      401   +
GET    /v1/dead-letters                  200 -      +    -      +     +   - - -  - - -  -   -       -      401   +
POST   /v1/dead-letters/{task_id}/requeue
                                         201 +      -    -      +     +   - - -  - - -  -   -       -      401   404
DELETE /v1/dead-letters/{task_id}        204 -      -    -      +     -   - - -  - - -  -   -       -      401   404
GET    /v1/schedules                     200 -      +    -      +     +   - - -  - - -  -   -       -      401   +
PUT    /v1/schedules/{name}              200 +      -    -      +     +   - - -  - - -  -   -       -      401   201
GET    /v1/schedules/{name}              200 -      +    -      +     +   - - -  - - -  -   -       -      401   404
DELETE /v1/schedules/{name}              204 +      -    -      +     +   - - -  - - -  -   -       -      401   404
POST   /v1/schedules/{name}/pause        200 +      -    -      +     +   - - -  - - -  -   -       -      401   404
POST   /v1/schedules/{name}/resume       200 +      -    -      +     +   - - -  - - -  -   -       -      401   404
POST   /v1/schedules/{name}/trigger      201 +      -    -      +     +   - - -  - - -  -   -       -      401   404
GET    /v1/workflows                     200 -      +    -      +     +   - - -  - - -  -   -       -      401   +
GET    /v1/workers                       200 -      -    -      +     -   - - -  - - -  -   -       -      401   +
GET    /v1/fleet                         200 -      -    -      +     -   - - -  - - -  -   -       -      401   +
POST   /v1/keys                          201 -      -    -      +     -   - - -  - - -  -   -       -      401   +
GET    /v1/keys                          200 -      -    -      +     -   - - -  - - -  -   -       -      401   +
GET    /v1/keys/{key_id}                 200 -      -    -      +     -   - - -  - - -  -   -       -      401   404
POST   /v1/keys/{key_id}/rotate          200 -      -    -      +     -   - - -  - - -  -   -       -      401   404
DELETE /v1/keys/{key_id}                 204 -      -    -      +     -   - - -  - - -  -   -       -      401   404
GET    /v1/whoami                        200 +      +    +      +     +   - - -  - - -  -   -       -      401   +
POST   /v1/sessions/{session_id}/tokens  201 -      +    -      +     +   - - -  - - -  -   -       -      401   404
POST   /v1/tasks/{task_id}/tokens        201 -      +    -      +     +   - - -  - - -  -   -       -      401   404
DELETE /v1/tokens/{token_id}             204 -      -    -      +     -   - - -  - - -  -   -       -      401   404
GET    /v1/limits                        200 +      +    +      +     +   - - -  - - -  -   -       -      401   +
"""

# Touch nobody's data; what they say of the deployment is whether it works, and what its routes are.
OPEN = {
    ("GET", "/healthz"): 200,
    ("GET", "/readyz"): 200,
    ("GET", "/docs"): 200,
    ("HEAD", "/docs"): 200,
    ("GET", "/docs/oauth2-redirect"): 200,
    ("HEAD", "/docs/oauth2-redirect"): 200,
    ("GET", "/openapi.json"): 200,
    ("HEAD", "/openapi.json"): 200,
}

# Whose body says which scopes the caller needs: it is read of every API key's holder.
DECIDED_BY_BODY = {("POST", "/v1/sessions/{session_id}/tokens"), ("POST", "/v1/tasks/{task_id}/tokens")}

# Where nothing is looked up of a key that is known already: key ids are random, and open nothing.
TOLD_FROM_MEMORY = {("DELETE", "/v1/tokens/{token_id}")}

# Callers whom no guarded route lets in: all get 401, with this code.
REFUSED = {
    "no credential": "unauthenticated",
    "another scheme": "unauthenticated",
    "an empty credential": "unauthenticated",
    "a malformed key": "unauthenticated",
    "a key that nobody has": "unauthenticated",
    "a key with another one's secret": "unauthenticated",
    "an expired key": "credential_expired",
    "a revoked key": "unauthenticated",
    "the secret before a rotation, after its grace": "unauthenticated",
    "a key in the query": "unauthenticated",
    "a malformed token": "unauthenticated",
    "an expired token": "credential_expired",
    "a token whose claims were changed": "unauthenticated",
    "a token of a revoked key": "unauthenticated",
    "a revoked token": "unauthenticated",
    "a token of an expired key": "credential_expired",
    "a token for this tenant, signed with another one's key": "unauthenticated",
    "a token of no key": "unauthenticated",
}

# Those of all scopes whom every guarded route lets in.
ADMITTED = ("the secret before a rotation, within its grace", "the secret after a rotation")

# What a well-formed request has beside its path; by default nothing.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/v1/sessions/{session_id}/tasks"): {"workflow": "echo"},
    ("PUT", "/v1/sessions/{session_id}/state/{key}"): {"value": 1},
    ("POST", "/v1/tasks"): {"workflow": "echo"},
    ("POST", "/v1/tasks/{task_id}/events"): {"type": "Answer", "data": 1},
    ("POST", "/v1/workflows/{name}/stream"): {"n": 1},
    ("POST", "/v1/keys"): {"name": "matrix", "scopes": ["read"]},
    ("PUT", "/v1/schedules/{name}"): {"workflow": "echo", "cron": "0 3 * * *"},
}

_COLUMNS = (
    "submit", "read", "cancel", "admin", "submit+read",
    "task read", "task cancel", "task answer", "session read", "session cancel", "session answer",
    "other task", "other session", "theirs", "query", "foreign",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """What a route answers to whom: of each column the status."""

    method: str
    path: str
    ok: int
    cells: dict[str, int]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def place(self) -> tuple[str, str]:
        return self.method, self.path

    @property
    def names_something(self) -> bool:
        """Whether it is about something that is there already, and another tenant's can be named."""
        return self.cells["foreign"] == 404


def _row(words: list[str]) -> Row:
    method, path, ok, *cells = words
    meaning = {"+": int(ok), "-": 403}
    statuses = [meaning.get(cell) or int(cell) for cell in cells]
    return Row(method, path, int(ok), dict(zip(_COLUMNS, statuses, strict=True)))


def _rows() -> list[Row]:
    _, _, *lines = _TABLE.strip("\n").splitlines()
    rows, begun = [], []
    for line in lines:
        begun += line.split()
        if len(begun) > 2:
            rows.append(_row(begun))
            begun = []
    return rows


ROWS = _rows()
