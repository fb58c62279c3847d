"""What the routers work with: built by `app.create_app`, found through the request. No globals."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from tailplane.broker import Broker, SessionRef, TaskRef
from tailplane.control_plane.access import caller_of
from tailplane.control_plane.cancel import Canceller
from tailplane.control_plane.clock import Clock
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.dead_letters import DeadLetters
from tailplane.control_plane.doorkeeper import Doorkeeper
from tailplane.control_plane.ends import Ends
from tailplane.control_plane.fleet import FleetMinder
from tailplane.control_plane.housekeeping import Housekeeper
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.key_admin import KeyAdmin
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.limiter import Limiter
from tailplane.control_plane.open_streams import OpenStreams, Place
from tailplane.control_plane.parked import ParkedMinder
from tailplane.control_plane.rosters import Rosters
from tailplane.control_plane.scheduler import Scheduler
from tailplane.control_plane.schedules import Schedules
from tailplane.control_plane.session_streaming import stream_session
from tailplane.control_plane.settings import Settings
from tailplane.control_plane.stored import StoredBytes
from tailplane.control_plane.stream_tokens import StreamTokens
from tailplane.control_plane.streaming import EventStream, answer_full, stream_events
from tailplane.control_plane.submit import Submitter
from tailplane.control_plane.survey import Survey
from tailplane.control_plane.turnstile import Turnstile
from tailplane.control_plane.workflow_registry import WorkflowRegistry
from tailplane.protocol.cursor import Position
from tailplane.protocol.errors import TooManyReaders
from tailplane.protocol.session_cursor import SessionPosition

_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one control plane.

    Attributes:
        streams: those that are open here.
        clock: what timers go by; all control planes of a deployment have the same.
        leaving: set when nobody should send anything new; some time before `drain`, or never.
        drain: set when the process is about to stop: whatever waits should end.
    """

    settings: Settings
    broker: Broker
    doorkeeper: Doorkeeper
    hub: Hub
    rosters: Rosters
    streams: OpenStreams
    tokens: StreamTokens
    ends: Ends
    registry: WorkflowRegistry
    submitter: Submitter
    limiter: Limiter
    turnstile: Turnstile
    tenants: KnownTenants
    stored: StoredBytes
    dead_letters: DeadLetters
    canceller: Canceller
    clock: Clock
    schedules: Schedules
    keys: KeyAdmin
    scheduler: Scheduler
    minder: FleetMinder
    parked: ParkedMinder
    housekeeper: Housekeeper
    survey: Survey
    counts: Counts
    leaving: asyncio.Event
    drain: asyncio.Event

    async def stream(
        self,
        request: Request,
        find: Callable[[], Awaitable[TaskRef]],
        position: Position,
        headers: Callable[[TaskRef], Mapping[str, str]] = lambda _: _NO_HEADERS,
    ) -> Response:
        """Return the response that streams a task from a position on.

        Args:
            find: returns the task, or makes it; called once it is certain that the caller may read one more.
            headers: returns what the response tells beside what all streams do.
        """

        async def open_stream(place: Place) -> Response:
            task = await find()
            return await stream_events(
                request,
                self.hub,
                task,
                position=position,
                keep_alive=self.settings.keep_alive,
                drain=self.drain,
                place=place,
                headers=headers(task),
            )

        return await self._placed(request, open_stream)

    async def stream_session(self, request: Request, session: SessionRef, position: SessionPosition) -> Response:
        """Return the response that streams the tasks of a session from a position on."""
        return await self._placed(
            request,
            lambda place: stream_session(
                request,
                self.hub,
                self.rosters,
                self.broker,
                session,
                position=position,
                keep_alive=self.settings.keep_alive,
                drain=self.drain,
                place=place,
            ),
        )

    async def _placed(self, request: Request, open_stream: Callable[[Place], Awaitable[Response]]) -> Response:
        """Return what a stream answers, which has a place in the register from before it is opened until its end."""
        try:
            place = await self.turnstile.enter(caller_of(request))
        except TooManyReaders as error:
            self.counts.note_reader_refused(caller_of(request).tenant)
            return answer_full(request, error)
        try:
            response = await open_stream(place)
        except BaseException:
            place.leave()
            raise
        if not isinstance(response, EventStream):
            place.leave()
        return response


def services_of(request: Request) -> Services:
    """Return the services of the application that got the request."""
    return cast(Services, request.app.state.services)
