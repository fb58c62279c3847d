"""What a task remembers from one attempt to the next: fields of its record, written with the entries of its stream.

    step:<id>        a durable step, a wait or a child, as `StepRecord` packs it
    journal:<n>      entry n of the journal that an engine keeps of a workflow, n = 0, 1, 2, ...
    state:<name>     a value of the task's state, as msgpack
    inbox            how many messages were ever put into its inbox
    inbox-bytes      how many bytes these have
    inbox:<n>        message n, n = 1, 2, 3, ...
    inbox-key:<key>  the message that came with an idempotency key, and a digest of it
    refused:<n>      message n did not fit what waited for it, and nobody gets it
    inbox-seen       how many messages the attempt knew of that parked the task
    stand            the events that no later attempt takes back, as `protocol.ranges` packs them
    rewound          the events that a step took back by itself, when it was tried again
    children         the tasks that it has started and that have not ended, as far as its attempt knew
    borne            how many attempts had failed when the latest step finished: lost workers before that count no more

The record's TTL is theirs. An attempt writes them, but for the inbox, which `deliver.lua` fills.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from tailplane.broker.keys import Keys, TaskRef
from tailplane.broker.records import parse_flat
from tailplane.broker.store import Store
from tailplane.protocol import codec, ranges
from tailplane.protocol.ranges import Range

STEP, ENTRY, VALUE, MESSAGE, KEY = "step:", "journal:", "state:", "inbox:", "inbox-key:"
REFUSED = "refused:"
STAND, REWOUND, INBOX, INBOX_SEEN, BORNE = "stand", "rewound", "inbox", "inbox-seen", "borne"
CHILDREN = "children"

StepKind = Literal["step", "wait", "child", "gather"]
# Letters of a step's packed form.
_LETTERS = {
    "name": "n", "kind": "k", "started_at": "t", "attempt": "a", "ended_at": "e", "seqs": "s", "value": "v",
    "error": "x", "until": "u", "message": "m", "child": "c", "digest": "d",
}  # fmt: skip
_NAMES = {letter: name for name, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A durable step.

    Attributes:
        name: what its code is called.
        kind: `step`, `wait` for a message, `child` (a task) or `gather` (several at once).
        started_at: seconds since the epoch, by the server's clock.
        attempt: the attempt that started it, or finished it.
        ended_at: likewise; None: it has not finished.
        seqs: seqs of the first and the last event that it wrote; None: it wrote none, or has not finished.
        value: its result, as msgpack.
        error: what it raised at last, as an Error of PROTOCOL.md 2 with `args`.
        until: when its wait ends, in seconds as above; None: never.
        message: the number of the message that it got; 0: none came in time.
        child: the child's id.
        digest: of its arguments, where their order may differ from one attempt to the next.
    """

    name: str
    kind: StepKind = "step"
    started_at: float
    attempt: int
    ended_at: float | None = None
    seqs: Range | None = None
    value: bytes | None = None
    error: Mapping[str, Any] | None = None
    until: float | None = None
    message: int | None = None
    child: str | None = None
    digest: str | None = None

    @property
    def has_finished(self) -> bool:
        """Whether it need not run again."""
        return self.ended_at is not None

    def packed(self) -> bytes:
        """Return it as the record keeps it."""
        values = {letter: getattr(self, name) for name, letter in _LETTERS.items()}
        return codec.pack({letter: value for letter, value in values.items() if value is not None}, check=False)

    @classmethod
    def parse(cls, raw: bytes) -> "StepRecord":
        """Return what the record keeps."""
        # A newer worker may have written more than this program knows.
        found = {_NAMES[letter]: value for letter, value in codec.unpack(raw).items() if letter in _NAMES}
        if found.get("seqs"):
            found["seqs"] = tuple(found["seqs"])
        return cls(**found)


class Message(NamedTuple):
    """A message of a task's inbox.

    Attributes:
        number: 1, 2, 3, ... in the order in which they came.
        type: name of the pydantic model it was sent as, or whatever its sender calls it; None: nothing.
        data: what was sent.
    """

    number: int
    type: str | None
    data: Any


@dataclass(slots=True)
class Memory:
    """What a task remembers.

    Attributes:
        steps: by id.
        journal: an engine's, in order.
        state: values by name, as msgpack.
        messages: all that ever came, in order.
        refused: the numbers of those that nobody gets, since they did not fit.
        stand: the events that no attempt takes back.
        rewound: the events that steps took back by themselves.
    """

    steps: dict[str, StepRecord] = field(default_factory=dict)
    journal: list[bytes] = field(default_factory=list)
    state: dict[str, bytes] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    stand: list[Range] = field(default_factory=list)
    rewound: list[Range] = field(default_factory=list)

    @classmethod
    def parse(cls, fields: Mapping[str, bytes]) -> "Memory":
        """Return what the fields of a task's record remember."""

        def numbered(prefix: str) -> list[tuple[int, bytes]]:
            return sorted((int(name), value) for name, value in _with_prefix(fields, prefix).items())

        return cls(
            steps={name: StepRecord.parse(value) for name, value in _with_prefix(fields, STEP).items()},
            journal=[value for _, value in numbered(ENTRY)],
            state=_with_prefix(fields, VALUE),
            messages=[parse_message(number, value) for number, value in numbered(MESSAGE)],
            refused={int(number) for number in _with_prefix(fields, REFUSED)},
            stand=ranges.unpack(fields.get(STAND)),
            rewound=ranges.unpack(fields.get(REWOUND)),
        )


def _with_prefix(fields: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}


def parse_message(number: int, raw: bytes) -> Message:
    """Return the message that the record keeps."""
    type_, data = codec.unpack(raw)
    return Message(number, type_, data)


async def load(store: Store, keys: Keys, task: TaskRef) -> Memory:
    """Return what a task remembers.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    # Whole: its fields are not known by name, and an attempt that goes on needs nearly all.
    return Memory.parse(parse_flat(await store.run("HGETALL", keys.task(task))))
