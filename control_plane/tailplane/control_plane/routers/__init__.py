"""The routes of the HTTP contract (PROTOCOL.md 2). Each parses, makes one call and answers."""

from tailplane.control_plane.routers import (
    dead_letters,
    fleet,
    health,
    keys,
    limits,
    messages,
    schedules,
    sessions,
    state,
    streams,
    tasks,
    tokens,
)

ALL = (
    sessions.router,
    state.router,
    tasks.router,
    streams.router,
    messages.router,
    tokens.router,
    dead_letters.router,
    schedules.router,
    fleet.router,
    keys.router,
    limits.router,
    health.router,
)

# What takes nothing but the request, and is asked for thousands of times a second: see `express`.
BUSY = (
    tasks.submit_task,
    sessions.submit_to_session,
    tasks.get_result,
    tasks.get_task,
    streams.get_events,
    streams.get_session_events,
    streams.submit_and_stream,
)

__all__ = ["ALL", "BUSY"]
