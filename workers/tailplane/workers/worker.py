"""The worker program: starts both sides of the process, and ends when the platform's has ended.

The main thread runs the workflows' loop, and the platform thread (`platform_thread`) all that talks to Redis.
"""

import asyncio
import signal
from collections.abc import Sequence
from functools import partial
from types import FrameType

import structlog
import uvloop

from tailplane.broker import trace_export
from tailplane.broker.garbage import collect_seldom
from tailplane.broker.listener import Listener, Questions
from tailplane.broker.logs import configure_logging
from tailplane.workers import log_events
from tailplane.workers.platform_thread import PlatformThread
from tailplane.workers.runner import Runner
from tailplane.workers.settings import Settings
from tailplane.workers.workflow import Workflow

log = structlog.get_logger("tailplane.workers")


def run_worker(workflows: Sequence[Workflow], settings: Settings) -> None:
    """Run workflows until SIGTERM or SIGINT, then drain and return. Call it in the main thread.

    Raises:
        ValueError: no workflows, or two of one name.
        UnfitStore: Redis may drop live streams, or refuses what a worker needs.
        PortTaken: there can be no probes and metrics on the port that is set for them.
        MetricsUnguarded: no token is set for metrics that others could read.
    """
    names = [workflow.name for workflow in workflows]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a worker needs workflows of different names, not {names}")
    configure_logging(settings.log_level, settings.log_format)
    if levels := [level for workflow in workflows if (level := workflow.options.log_level) is not None]:
        log_events.install(min(levels))
    end_of_traces = trace_export.start("tailplane-worker")
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    runner = Runner(loop, settings.concurrency, settings.max_event_bytes)
    platform = PlatformThread(workflows, settings, runner, end_of_traces)

    def drain(signum: int, _: FrameType | None) -> None:
        platform.drain(signal.Signals(signum).name)

    listener = _listen(platform, settings)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, drain)
    collect_seldom()
    platform.start()
    try:
        _run_until_ended(loop, platform)
    finally:
        platform.join()
        _unwind(loop)
        runner.close()
        platform.last_grace.cancel()
        loop.close()
        if listener is not None:
            listener.close()
        end_of_traces()
    if platform.error is not None:
        raise platform.error


def _listen(platform: PlatformThread, settings: Settings) -> Listener | None:
    if settings.metrics_port is None:
        return None
    from tailplane.broker.exposition import expose
    from tailplane.workers.metrics import registry

    vitals, metrics = platform.vitals, partial(expose, registry(lambda: platform.parts))
    questions = Questions(vitals.live, vitals.ready, metrics)
    return Listener(settings.metrics_host, settings.metrics_port, questions, settings.metrics_token)


def _run_until_ended(loop: asyncio.AbstractEventLoop, platform: PlatformThread) -> None:
    """Run the workflows' loop for as long as the platform lives, whatever authors' code does to it."""
    while not platform.has_ended:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            # Raised in a task that a workflow started by itself: asyncio lets these two end the loop.
            log.error("a task of a workflow tried to end the worker", type=type(error).__name__)


def _unwind(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what the loop still runs, and let it unwind: code in threads holds it up for `_LAST_GRACE` at most."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
