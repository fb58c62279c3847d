"""Runs workflows: the SDK that their authors import, and the worker program."""

from tailplane.protocol.errors import StateConflict
from tailplane.protocol.versioned import Versioned
from tailplane.workers.context import Context
from tailplane.workers.retries import Retry
from tailplane.workers.session_state import SessionState
from tailplane.workers.settings import Settings
from tailplane.workers.step_function import Step, step
from tailplane.workers.target import TargetNotFound, load_target
from tailplane.workers.worker import run_worker
from tailplane.workers.workflow import Workflow, workflow

__all__ = [
    "Context",
    "Retry",
    "SessionState",
    "Settings",
    "StateConflict",
    "Step",
    "TargetNotFound",
    "Versioned",
    "Workflow",
    "load_target",
    "run_worker",
    "step",
    "workflow",
]
