"""The scripts on a real server beside a model of what they promise: whatever happens, in whatever order.

hypothesis makes up the lives of a few tasks and workers: attempts that lose their task and write on, replies that are
lost, leases that run out, tasks that are delivered twice. Each answer, and all that is left behind, must be what
`model.py` says. A failure is printed as the shortest list of steps that shows it.

The record decides who holds an attempt and the queue who may run what, and neither asks the other: so there are two
machines. STATE_MACHINE_EXAMPLES=5000 gives each so many examples, other ones each time.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tailplane.deploy.embedded import EmbeddedServer

from .machine import Machine
from .queue_machine import QueueMachine
from .task_machine import TaskMachine


@pytest.mark.slow
@pytest.mark.parametrize("machine", [TaskMachine, QueueMachine])
def test_whatever_happens_the_broker_keeps_its_promises(server: EmbeddedServer, machine: type[Machine]) -> None:
    wanted = os.environ.get("STATE_MACHINE_EXAMPLES")
    run_state_machine_as_test(
        lambda: machine(server.url),
        settings=settings(
            max_examples=int(wanted or 60),
            stateful_step_count=50,
            derandomize=wanted is None,
            # How fast the machine is says nothing of the broker.
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
