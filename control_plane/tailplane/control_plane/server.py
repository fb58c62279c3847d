"""The control plane's process: uvicorn, told to end its streams before it waits for its connections to close."""

import asyncio
import contextlib
import math
import signal
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.lifespan.on import LifespanOn

from tailplane.broker import trace_export
from tailplane.broker.garbage import Leaver, collect_seldom
from tailplane.broker.listener import Listener, Questions
from tailplane.broker.logs import configure_logging
from tailplane.control_plane.app import create_app
from tailplane.control_plane.connections import ConnectionLimits, Connections
from tailplane.control_plane.guarding import GuardedProtocol
from tailplane.control_plane.open_files import raise_open_files
from tailplane.control_plane.readiness import Vitals
from tailplane.control_plane.request_log import add_request
from tailplane.control_plane.settings import Settings
from tailplane.protocol.urls import mask_url

# Seconds. Longer than clients and load balancers keep an idle connection (5 to 60 s): whoever closes it last never
# writes a request into a connection that is being closed.
KEEP_ALIVE = 75
# Files that are no clients' connections: those to Redis, to each shard of a cluster, for logs and probes.
_OTHER_FILES = 100
# Seconds between two looks, as uvicorn has them.
_TICK = 0.1

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Run a control plane until SIGTERM or SIGINT; then drain and return. A second SIGINT ends it at once.

    Raises:
        UnfitStore: Redis may drop live streams.
        NoKeys: requests need an API key, and there is none.
        PortTaken: there can be no probes and metrics on the port that is set for them.
        MetricsUnguarded: no token is set for metrics that others could read.
    """
    configure_logging(settings.log_level, settings.log_format, add_request)
    end_of_traces = trace_export.start("tailplane-control-plane")
    app = create_app(settings)
    server = Server(app, settings)
    signing_in = "with API keys" if settings.demands_keys else "nobody has to"
    log.info("control plane starts", redis=mask_url(settings.redis_url), prefix=settings.prefix, signing_in=signing_in)
    listener = _listen(app, settings)
    collect_seldom()
    try:
        server.run()
    finally:
        if listener is not None:
            listener.close()
        end_of_traces()
    if app.state.refusal is not None:
        raise app.state.refusal
    if server.lost_its_app:
        raise SystemExit("the control plane's background work failed; see the log")


def _listen(app: FastAPI, settings: Settings) -> Listener | None:
    if settings.metrics_port is None:
        return None
    from tailplane.broker.exposition import expose
    from tailplane.control_plane.metrics import registry

    vitals: Vitals = app.state.vitals
    metrics = partial(expose, registry(app))
    questions = Questions(vitals.live, vitals.ready, metrics)
    return Listener(settings.metrics_host, settings.metrics_port, questions, settings.metrics_token)


def _limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        max_connections=_connections_with(settings.max_connections),
        head_timeout=settings.head_timeout.total_seconds(),
        max_head_bytes=settings.max_head_bytes,
        max_headers=settings.max_headers,
        max_url_bytes=settings.max_url_bytes,
        body_timeout=settings.body_timeout.total_seconds(),
        send_timeout=settings.send_timeout.total_seconds(),
    )


def _connections_with(wanted: int) -> int:
    """Return how many connections there can be: past the limit of open files, Redis could not be reached again."""
    open_files = raise_open_files(wanted + _OTHER_FILES)
    if wanted <= open_files - _OTHER_FILES:
        return wanted
    possible = max(1, open_files - _OTHER_FILES)
    log.info("fewer connections than wanted: the limit of open files", open_files=open_files, connections=possible)
    return possible


class Server(uvicorn.Server):
    """uvicorn, with a drain: a stream that never ends would keep it from stopping."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._guard = guard = Connections(_limits(settings), app.state.counts.turned_away)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=cast(type[asyncio.Protocol], partial(GuardedProtocol, guard=guard)),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                # Nobody asks who the client is, or by which scheme it came.
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=math.ceil(settings.drain_grace.total_seconds()),
            )
        )
        self._app = app
        self._drain: asyncio.Event = app.state.drain
        self._delay = settings.drain_delay
        self._garbage = Leaver()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell all that waits to end, then close: in the other order the waiting would last the whole grace."""
        if self._delay is not None:
            await self._leave(self._delay)
        self._drain.set()
        await super().shutdown(sockets)

    async def _leave(self, delay: timedelta) -> None:
        """Go on for a while, as not ready: until whoever sends requests here has noticed."""
        self._app.state.leaving.set()
        until = asyncio.get_running_loop().time() + delay.total_seconds()
        # A second signal, and the application's end, are only to be seen by looking.
        while not (self.force_exit or self._is_dead) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_TICK)

    @property
    def lost_its_app(self) -> bool:
        """Whether the application's background work has failed: its streams would stand still for ever."""
        return isinstance(self.lifespan, LifespanOn) and self.lifespan.error_occurred

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop: also when the application is dead, or refuses, behind a server that lives.

        Ten times a second.
        """
        if counter % 10 == 0:
            self._garbage.tick()
            self._guard.look(asyncio.get_running_loop().time())
        return await super().on_tick(counter) or self._is_dead

    @property
    def _is_dead(self) -> bool:
        return self.lost_its_app or self._app.state.refusal is not None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT, and take them as served: uvicorn's own raises them again after the shutdown,
        and the caller of `serve` would die of them instead of returning.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT)
        for number in handled:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
