"""What a caller may do: scopes of API keys, and actions of stream tokens. No I/O."""

from collections.abc import Collection
from enum import StrEnum


class Scope(StrEnum):
    """What an API key lets its holder do, within its tenant."""

    SUBMIT = "submit"
    """Start tasks, now or by schedules; open and close sessions, send messages, write what sessions share."""
    READ = "read"
    """Look at tasks, streams, sessions, schedules and workflows."""
    CANCEL = "cancel"
    """Cancel tasks."""
    ADMIN = "admin"
    """All of these, drop dead letters, look at the fleet, and manage the tenant's API keys."""


class Action(StrEnum):
    """What a stream token lets its holder do with its task, or with the tasks of its session."""

    READ = "read"
    CANCEL = "cancel"
    ANSWER = "answer"
    """Send messages to it."""


# What a key must be allowed before it can give an action away.
SCOPE_OF = {Action.READ: Scope.READ, Action.CANCEL: Scope.CANCEL, Action.ANSWER: Scope.SUBMIT}


def spread(scopes: Collection[Scope]) -> frozenset[Scope]:
    """Return these scopes with those that they include."""
    return frozenset(Scope if Scope.ADMIN in scopes else scopes)
