"""The routes of the HTTP contract (PROTOCOL.md 2). Each parses, makes one call and answers."""

from tailplane.control_plane.routers import fleet, health, sessions, streams, tasks

ALL = (sessions.router, tasks.router, streams.router, fleet.router, health.router)

__all__ = ["ALL"]
