"""The composition root: builds everything that a control plane is made of, and closes it in reverse."""

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import State

from tailplane.broker import Broker, UnfitStore, mind_fitness, rights, wait_until_fit
from tailplane.broker.opening import open_broker
from tailplane.broker.tenant_labels import TenantLabels
from tailplane.control_plane import documents, problems, routers
from tailplane.control_plane.cancel import Canceller
from tailplane.control_plane.clock import Clock, ServerClock
from tailplane.control_plane.counts import Counts
from tailplane.control_plane.dead_letters import DeadLetters
from tailplane.control_plane.doorkeeper import Doorkeeper
from tailplane.control_plane.ends import Ends
from tailplane.control_plane.express import ExpressApp
from tailplane.control_plane.first_key import NoKeys, wait_for_keys
from tailplane.control_plane.fleet import FleetMinder
from tailplane.control_plane.housekeeping import Housekeeper
from tailplane.control_plane.hub import Hub
from tailplane.control_plane.key_admin import KeyAdmin
from tailplane.control_plane.known_tenants import KnownTenants
from tailplane.control_plane.limiter import Limiter
from tailplane.control_plane.open_streams import OpenStreams
from tailplane.control_plane.parked import ParkedMinder
from tailplane.control_plane.queue import TaskQueue, open_queue
from tailplane.control_plane.readiness import Vitals
from tailplane.control_plane.rosters import Rosters
from tailplane.control_plane.scheduler import Scheduler
from tailplane.control_plane.schedules import Schedules
from tailplane.control_plane.services import Services
from tailplane.control_plane.settings import Settings
from tailplane.control_plane.stored import StoredBytes
from tailplane.control_plane.stream_tokens import StreamTokens
from tailplane.control_plane.submit import Submitter
from tailplane.control_plane.survey import Survey
from tailplane.control_plane.turnstile import Turnstile
from tailplane.control_plane.workflow_registry import WorkflowRegistry
from tailplane.protocol.errors import StoreUnavailable

_DESCRIPTION = """\
Runs workflows on workers and streams what they produce while they run.

Bodies and answers are JSON, or msgpack by `Content-Type` and `Accept`. Errors are `application/problem+json`.
"""


def create_app(settings: Settings, clock: Clock | None = None) -> FastAPI:
    """Return the application. It connects to Redis when first asked, and starts without it.

    Where Redis turns out to be unfit for live streams, or to have no API key where requests need one,
    `app.state.refusal` says why, and the process should end.

    Args:
        clock: what timers go by; None: the clock of the queue's server.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_queue(settings.redis_url, settings.prefix) as queue,
            open_broker(queue, settings) as broker,
            asyncio.TaskGroup() as background,
        ):
            services = _build(settings, queue, broker, app.state, counts, clock)
            app.state.services = services
            app.state.vitals.begin()
            running = [
                background.create_task(services.doorkeeper.run()),
                background.create_task(services.tenants.run()),
                background.create_task(services.stored.run()),
                background.create_task(services.turnstile.run()),
                background.create_task(services.hub.run()),
                background.create_task(services.rosters.run()),
                background.create_task(services.ends.run()),
                background.create_task(services.minder.run()),
                background.create_task(services.parked.run()),
                background.create_task(services.housekeeper.run()),
                background.create_task(services.scheduler.run()),
                background.create_task(_wake_readers_on_drain(services)),
                background.create_task(_mind_fitness(app, services)),
            ]
            if settings.metrics_port is not None:
                running.append(background.create_task(services.survey.run()))
            try:
                yield
            finally:
                app.state.drain.set()
                app.state.vitals.end()
                for task in running:
                    task.cancel()

    counts = Counts(TenantLabels(settings.metrics_tenants))
    app = ExpressApp(
        counts,
        settings.origins,
        title="Tailplane",
        version=_version(),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        # FastAPI's own would make three spans of each probe, and tell of exceptions by their texts. Releases that have
        # none take no notice.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    # Set when the process is about to stop, by the server or by the end of the lifespan.
    app.state.drain = asyncio.Event()
    # Set by the server before it drains: nobody should send anything new.
    app.state.leaving = asyncio.Event()
    # Why this process must not serve: an UnfitStore, or NoKeys.
    app.state.refusal = None
    app.state.services = None
    app.state.counts = counts
    app.state.vitals = Vitals(app)
    for router in routers.ALL:
        app.include_router(router)
    routes = [route for router in routers.ALL for route in router.routes]
    problems.install(app, routes)
    app.express(routes, routers.BUSY)
    documents.install(app, routes)
    return app


async def _wake_readers_on_drain(services: Services) -> None:
    await services.drain.wait()
    services.hub.wake_all()
    services.rosters.wake_all()
    services.ends.wake_all()
    # At once: their readers go to the others, who must not count them twice.
    with contextlib.suppress(StoreUnavailable):
        await services.turnstile.close()


async def _mind_fitness(app: FastAPI, services: Services) -> None:
    try:
        broker = services.broker
        await wait_until_fit(broker.redis, rights.of_control_plane(broker.keys), broker.shards)
        await wait_for_keys(broker.api_keys, services.settings)
    except (UnfitStore, NoKeys) as error:
        app.state.refusal = error
        # Whoever serves this application may not know of refusals: at least it takes no more requests.
        services.drain.set()
        return
    await mind_fitness(services.broker.redis, services.broker.shards)


def _build(
    settings: Settings, queue: TaskQueue, broker: Broker, state: State, counts: Counts, clock: Clock | None
) -> Services:
    # One queue, one connection: what goes into it goes through arq's client.
    queue.tasks = broker.queue
    ends = Ends(broker)
    registry = WorkflowRegistry(broker.queue)
    streams = OpenStreams()
    doorkeeper = Doorkeeper(broker, settings, streams)
    tenants, stored = KnownTenants(broker.tenants, settings.max_queued), StoredBytes(broker.usage)
    limiter = Limiter(broker, tenants, doorkeeper.known, stored)
    submitter = Submitter(broker, queue, registry, limiter, stored, tenants, counts)
    canceller = Canceller(broker, ends)
    clock = clock or ServerClock(broker.queue.wire)
    return Services(
        settings=settings,
        broker=broker,
        doorkeeper=doorkeeper,
        hub=Hub(broker, counts),
        rosters=Rosters(broker),
        streams=streams,
        tokens=StreamTokens(broker, doorkeeper),
        turnstile=Turnstile(streams, broker.usage, tenants, doorkeeper.known),
        tenants=tenants,
        stored=stored,
        limiter=limiter,
        ends=ends,
        registry=registry,
        submitter=submitter,
        dead_letters=DeadLetters(broker, submitter),
        canceller=canceller,
        clock=clock,
        schedules=Schedules(broker, submitter, clock),
        keys=KeyAdmin(broker.api_keys),
        scheduler=Scheduler(broker, registry, canceller, clock, counts, tenants),
        minder=FleetMinder(broker.queue),
        parked=ParkedMinder(broker, clock),
        housekeeper=Housekeeper(broker),
        survey=Survey(broker),
        counts=counts,
        leaving=state.leaving,
        drain=state.drain,
    )


def _version() -> str:
    try:
        return importlib.metadata.version("tailplane")
    except importlib.metadata.PackageNotFoundError:
        return "0"
