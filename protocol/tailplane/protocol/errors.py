"""Every error that crosses a border between Tailplane's parts, as one tree.

    TailplaneError
    |-- RequestError                 what was asked can't be done; asking again the same way won't help
    |   |-- InvalidRequest           malformed body, header or parameter
    |   |   |-- InvalidId
    |   |   |-- InvalidCursor        not a cursor
    |   |   `-- InvalidInput         the input does not fit the workflow
    |   |-- NotAcceptable            no format that the caller takes
    |   |-- Unauthenticated          no credential, or none that is good
    |   |   `-- CredentialExpired    it was good; its time has passed
    |   |-- Forbidden                the credential does not go so far
    |   |-- KeyNotFound              no such API key
    |   |-- KeyMade                  the request has made an API key before; its secret can't be told again
    |   |-- KeyEnded                 the API key was revoked, or has expired
    |   |-- LastAdmin                nobody could manage the tenant's API keys any more
    |   |-- TooManyKeys              the tenant has as many API keys as it may
    |   |-- UnknownWorkflow
    |   |-- TaskNotFound
    |   |   `-- TaskGone             it existed; its retention has passed
    |   |-- DeadLetterNotFound       the task has not failed, or is no dead letter any more
    |   |-- TaskEnded                it takes no more messages
    |   |-- InboxFull                the task has got as many messages as the deployment takes
    |   |-- ScheduleNotFound
    |   |-- SessionNotFound
    |   |-- SessionClosed
    |   |-- StateConflict            somebody changed a value of a session's state in between
    |   |-- CursorPastEnd            the stream ends before it
    |   |-- IdempotencyConflict      the key was used for another request
    |   |-- TooLarge                 body, input, event or result over its limit
    |   `-- Unserialisable           a value that msgpack can't carry
    |-- Unavailable                  try again later: `retry_after` says when
    |   |-- StoreUnavailable         Redis can't be reached
    |   |   `-- StoreForbidden       its user lacks a right
    |   |-- QueueFull              its workflow has as many tasks waiting as the deployment takes
    |   |-- RateLimited            the tenant, or the API key, submits more often than it may
    |   |-- TooManyReaders         it reads as many streams at once as it may
    |   `-- QuotaExceeded          the tenant's tasks have written as much as is kept of them
    |-- ConnectionLost               the client gave up reconnecting
    |-- StreamGap                    the stream lacks events, also when it is read again
    |-- StreamMalformed              what arrives is no stream, also when it is read again
    |-- EventMismatch                an event does not fit the model that the reader knows by its type
    |-- BufferFull                   the workflow writes faster than Redis takes it
    |-- TaskLost                     this attempt no longer holds the task: stop
    |-- WorkflowChanged              the code does not do what an earlier attempt of the task has done
    |-- StepFailed                   what a step raised in an earlier attempt, where its class is not known
    |-- ResultPending                the task has not ended yet
    `-- TaskError                    the task ended, and not well
        |-- TaskFailed
        |-- TaskCancelled
        `-- TaskExpired

Each class carries its wire `code` (the last part of a problem+json `type`) and HTTP `status`; `from_problem` turns a
problem document back into the class. An error is made with facts by name, never secrets: they are members of its
document, and those that its class declares (`Fact`) are attributes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

PROBLEM_TYPE = "urn:tailplane:problem:"
T = TypeVar("T")


class Fact(Generic[T]):
    """An attribute that is one of an error's facts, or a default where it was not told.

    What a problem document says is not checked: another server's may have another type.

    Args:
        meaning: what it says, for whoever asks for help with the class.
    """

    def __init__(self, default: T, meaning: str) -> None:
        self._default = default
        self.__doc__ = meaning

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, error: "TailplaneError | None", owner: type) -> T:
        found: T = self._default if error is None else error.facts.get(self._name, self._default)
        return found

    def __set__(self, error: "TailplaneError", value: T) -> None:
        error.facts[self._name] = value


class TailplaneError(Exception):
    """The root: catch this to catch all that Tailplane raises on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong inside Tailplane"

    def __init__(self, detail: str = "", *, hint: str | None = None, **facts: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.hint = hint
        self.facts: dict[str, Any] = facts
        if hint:
            # A plain traceback shows it too: a program's, and that of a task which failed.
            self.add_note(f"hint: {hint}")

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        """Become what a copy is made of, with facts of its own."""
        super().__setstate__(state)
        self.facts = dict(self.facts)

    def problem(self) -> dict[str, Any]:
        """Return the error as an RFC 9457 problem document."""
        document: dict[str, Any] = {
            "type": PROBLEM_TYPE + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.hint:
            document["hint"] = self.hint
        return document | self.facts


class RequestError(TailplaneError):
    """What was asked can't be done; asking again the same way won't help."""

    code = "bad_request"
    status = 400
    title = "The request can't be carried out"


class InvalidRequest(RequestError):
    """A malformed body, header or parameter."""

    code = "invalid_request"
    status = 422
    title = "The request is malformed"


class InvalidId(InvalidRequest):
    """Not an id."""

    code = "invalid_id"
    title = "That is not an id"


class InvalidCursor(InvalidRequest):
    """Not a cursor: neither a seq, nor `start`, `now` or `-N`."""

    code = "invalid_cursor"
    title = "That is not a cursor"


class InvalidInput(InvalidRequest):
    """The input does not fit the workflow; `facts["errors"]` lists what is wrong and where."""

    code = "invalid_input"
    title = "The input does not fit the workflow"


class NotAcceptable(RequestError):
    """`Accept` takes none of the formats on offer."""

    code = "not_acceptable"
    status = 406
    title = "None of the formats on offer is acceptable"


class Unauthenticated(RequestError):
    """The request has no credential, or one that is not good: malformed, unknown, revoked."""

    code = "unauthenticated"
    status = 401
    title = "Sign in with an API key"


class CredentialExpired(Unauthenticated):
    """The credential was good; its time has passed: fetch another one."""

    code = "credential_expired"
    title = "The credential has expired"


class Forbidden(RequestError):
    """The credential is good and does not go so far: it lacks a scope, or is for another task or session."""

    code = "forbidden"
    status = 403
    title = "The credential does not allow this"


class KeyNotFound(RequestError):
    """No such API key."""

    code = "key_not_found"
    status = 404
    title = "No such API key"


class KeyMade(RequestError):
    """The request was carried out before: `facts["key_id"]` is the API key that it made, whose secret is not kept."""

    code = "key_made"
    status = 409
    title = "The request has made an API key before"


class KeyEnded(RequestError):
    """The API key was revoked or has expired: nothing brings it back."""

    code = "key_ended"
    status = 409
    title = "The API key has ended"


class LastAdmin(RequestError):
    """It is the last API key of its tenant that may manage keys; create another one before it is revoked."""

    code = "last_admin"
    status = 409
    title = "Nobody could manage the tenant's API keys any more"


class TooManyKeys(RequestError):
    """The tenant has as many API keys as it may; `facts["limit"]` says how many. Ended ones do not count."""

    code = "too_many_keys"
    status = 409
    title = "The tenant has as many API keys as it may"


class UnknownWorkflow(RequestError):
    """No worker has ever registered a workflow of that name."""

    code = "unknown_workflow"
    status = 404
    title = "No such workflow"


class TaskNotFound(RequestError):
    """No such task."""

    code = "task_not_found"
    status = 404
    title = "No such task"


class TaskGone(TaskNotFound):
    """The task ended and its retention has passed: its record and stream were removed."""

    code = "task_gone"
    status = 410
    title = "The task's retention has passed"


class DeadLetterNotFound(RequestError):
    """The task has not failed, or it was taken off the dead letters before."""

    code = "dead_letter_not_found"
    status = 404
    title = "No such dead letter"


class TaskEnded(RequestError):
    """The task has ended: nobody would ever read the message."""

    code = "task_ended"
    status = 409
    title = "The task has ended"


class ScheduleNotFound(RequestError):
    """No such schedule."""

    code = "schedule_not_found"
    status = 404
    title = "No such schedule"


class SessionNotFound(RequestError):
    """No such session."""

    code = "session_not_found"
    status = 404
    title = "No such session"


class SessionClosed(RequestError):
    """The session takes no more tasks."""

    code = "session_closed"
    status = 409
    title = "The session is closed"


class StateConflict(RequestError):
    """A value of a session's state has another version than the writer knew: somebody came between."""

    code = "state_conflict"
    status = 412
    title = "The value has another version"
    key = Fact("", "the value's key")
    expected = Fact(0, "the version that the writer knew; 0: none")
    found = Fact(0, "the version that it has")


class CursorPastEnd(RequestError):
    """The cursor lies after the stream's last event."""

    code = "cursor_past_end"
    status = 416
    title = "The cursor is past the stream's end"


class IdempotencyConflict(RequestError):
    """The idempotency key was used before, for another request."""

    code = "idempotency_conflict"
    status = 409
    title = "The idempotency key belongs to another request"


class TooLarge(RequestError):
    """A body, input, event or result is over its limit."""

    code = "too_large"
    status = 413
    title = "Too large"


class Unserialisable(RequestError):
    """A value that msgpack can't carry."""

    code = "unserialisable"
    status = 422
    title = "The value can't be serialised"


class Unavailable(TailplaneError):
    """It can't be done now; try again after `retry_after` seconds."""

    code = "unavailable"
    status = 503
    title = "Not available right now"
    retry_after = Fact(1.0, "seconds")

    def problem(self) -> dict[str, Any]:
        """Return the error as a problem document, with `retry_after` in seconds."""
        return super().problem() | {"retry_after": self.retry_after}


class StoreUnavailable(Unavailable):
    """Redis can't be reached or did not answer in time."""

    code = "store_unavailable"
    title = "The store does not answer"


class StoreForbidden(StoreUnavailable):
    """Redis refuses a command, key or channel to the program's user; whoever gives rights can mend it meanwhile."""

    code = "store_forbidden"
    title = "The store refuses what the program needs"


class QueueFull(Unavailable):
    """As many tasks of the workflow wait as the deployment takes; the refused one left nothing behind."""

    code = "queue_full"
    status = 429
    title = "The queue is full"
    depth = Fact(0, "how many wait in the workflow's queue")
    limit = Fact(0, "how many of them the control plane takes")


class RateLimited(Unavailable):
    """The tenant, or the API key, submits more often than it may; the refused task left nothing behind."""

    code = "rate_limited"
    status = 429
    title = "Too many submits"
    limit = Fact(0, "how many tasks may come at once")
    window = Fact(0.0, "seconds in which so many more may")
    of = Fact("tenant", "whose limit it is, `tenant` or `key`")


class TooManyReaders(Unavailable):
    """The tenant, or the API key, reads as many streams at once as it may. Those that are open stay so."""

    code = "too_many_readers"
    status = 429
    title = "Too many streams are read"
    readers = Fact(0, "how many it reads")
    limit = Fact(0, "how many it may")
    of = Fact("tenant", "whose limit it is, `tenant` or `key`")


class QuotaExceeded(Unavailable):
    """What the tenant's tasks have written is as much as may be kept of them; tasks that run go on."""

    code = "quota_exceeded"
    status = 429
    title = "The tenant's tasks have written too much"
    stored = Fact(0, "how many bytes they have written within the retention, by estimate")
    limit = Fact(0, "how many they may")


class InboxFull(RequestError):
    """The task has got as many messages as the deployment takes of one."""

    code = "inbox_full"
    status = 409
    title = "The task takes no more messages"


class ConnectionLost(TailplaneError):
    """The client could not reach the control plane, or lost it and gave up reconnecting."""

    code = "connection_lost"
    status = 503
    title = "The control plane can't be reached"


class StreamGap(TailplaneError):
    """The stream lacks events: it keeps its last ones only, or the store lost them."""

    code = "stream_gap"
    title = "The stream lacks events"
    last_seq = Fact(0, "the last event seen")
    next_seq = Fact(0, "the event that came after it, where `last_seq + 1` was due")


class StreamMalformed(TailplaneError):
    """What arrives can't be decoded as a stream, also when it is read again from the same cursor."""

    code = "stream_malformed"
    title = "The stream can't be decoded"


class EventMismatch(TailplaneError):
    """An event's data does not fit the model that the reader knows by its type.

    Raised on the reader's side only. Nothing is lost: the event comes with the error, reading on gives the next one.
    """

    code = "event_mismatch"
    title = "An event does not fit its model"
    event: Fact[Any] = Fact(None, "the `events.Event`, with its data as it was sent")


class BufferFull(TailplaneError):
    """The workflow wrote more than its buffer holds before Redis took it."""

    code = "buffer_full"
    title = "The task's event buffer is full"


class TaskLost(TailplaneError):
    """This attempt no longer holds the task: it was cancelled, taken over or removed."""

    code = "task_lost"
    title = "This attempt no longer holds its task"


class WorkflowChanged(TailplaneError):
    """The workflow's code asks for other steps than it did in an earlier attempt of the task."""

    code = "workflow_changed"
    title = "The workflow has changed under a running task"


class StepFailed(TailplaneError):
    """A step failed in an earlier attempt, with an exception whose class is not known here."""

    code = "step_failed"
    title = "A step has failed"


class ResultPending(TailplaneError):
    """The task has not ended yet."""

    code = "result_pending"
    status = 504
    title = "The task has not ended yet"


class TaskError(TailplaneError):
    """A task ended, and not with success. The root of what the stream's loop raises."""

    code = "task_error"
    title = "The task did not succeed"
    task_id = Fact("", "the task that ended")


class TaskFailed(TaskError):
    """The workflow raised, timed out, or could not be run."""

    code = "task_failed"
    title = "The task failed"
    error_type = Fact("", "qualified name of the remote exception's class, such as `builtins.ValueError`")
    message = Fact("", "the remote exception's text")
    remote_traceback = Fact("", "the remote traceback as text; empty if there was none")
    error_code = Fact(
        "workflow_error", "`workflow_error`, `timeout`, `invalid_input`, `unserialisable` or another reason"
    )

    def __init__(self, detail: str = "", *, hint: str | None = None, **facts: Any) -> None:
        said = [str(facts[name]) for name in ("error_type", "message") if facts.get(name)]
        super().__init__(detail or ": ".join(said), hint=hint, **facts)

    def __str__(self) -> str:
        text = f"task {self.task_id} failed: {self.detail}"
        return f"{text}\n\nRemote traceback:\n{self.remote_traceback}" if self.remote_traceback else text


class TaskCancelled(TaskError):
    """Somebody cancelled the task. What it wrote before stays readable."""

    code = "task_cancelled"
    title = "The task was cancelled"


class TaskExpired(TaskError):
    """The task did not start in time."""

    code = "task_expired"
    title = "The task expired before it started"


# Those of this module, by name: what a part raises among its own does not cross a border, and has no place in it.
BY_CODE: Mapping[str, type[TailplaneError]] = {
    kind.code: kind for kind in list(globals().values()) if isinstance(kind, type) and issubclass(kind, TailplaneError)
}

# Seconds: 30 days. A quota may be used up for as long as ended tasks are kept; beyond that, what comes may be anything.
LONGEST_WAIT = 30 * 86400.0


def _wait_in(said: object) -> float:
    if not isinstance(said, int | float) or said != said:
        return Unavailable.retry_after
    # Compared before it becomes a float, which the largest numbers can't.
    return float(max(0, min(said, LONGEST_WAIT)))


def from_problem(document: Mapping[str, Any]) -> TailplaneError:
    """Return the error that a problem document describes; an unknown code gives its nearest root by status."""
    known = {"type", "title", "status", "detail", "code", "hint", "self"}
    facts = {str(key): value for key, value in document.items() if key not in known and str(key).isidentifier()}
    detail = str(document.get("detail") or document.get("title") or "")
    status = document.get("status")
    status = status if isinstance(status, int) else 500
    fallback = (
        Unavailable if status in (429, 502, 503, 504) else RequestError if 400 <= status < 500 else TailplaneError
    )
    kind = BY_CODE.get(str(document.get("code")), fallback)
    if issubclass(kind, Unavailable):
        facts["retry_after"] = _wait_in(document.get("retry_after"))
    hint = str(document["hint"]) if document.get("hint") else None
    return kind(detail, hint=hint, **facts)
