"""Several worker processes as one: `tailplane worker TARGET --processes N`. What dies is started again.

The workers write straight to this process' output, so that logs in JSON stay whole lines of JSON.
"""

import time
from collections.abc import Callable

from tailplane.deploy.child import Child, tailplane_command
from tailplane.deploy.cluster import stop_all
from tailplane.deploy.interrupts import Interrupts
from tailplane.deploy.ports import metrics_variable
from tailplane.deploy.supervisor import HOPELESS, Supervisor

_TICK = 0.1


def run_workers(
    target: str,
    processes: int,
    *,
    concurrency: int | None,
    metrics_port: int | None,
    grace: float,
    say: Callable[[str, str], None],
) -> int:
    """Run `processes` workers until a signal comes; return the exit code.

    Args:
        target: what they run.
        processes: how many.
        concurrency: tasks at once in each; None for the setting.
        metrics_port: the first one's port for probes and metrics, each other one has the next; None: none.
        grace: seconds that they get to drain.
        say: takes a worker's name and what happened to it.
    """
    options = () if concurrency is None else ("--concurrency", str(concurrency))
    command = tailplane_command("worker", target, *options)
    children = [
        Child(f"worker-{index + 1}", command, output=None, env=metrics_variable(metrics_port, index))
        for index in range(processes)
    ]
    with Interrupts() as interrupts:
        try:
            for child in children:
                child.start()
            supervisor = Supervisor(children, say, time.monotonic())
            while not supervisor.hopeless:
                supervisor.tick(time.monotonic())
                time.sleep(_TICK)
        except KeyboardInterrupt:
            return 0
        finally:
            stop_all(children, grace, lambda: interrupts.insisted)
    return HOPELESS
