"""Runs workflows: the SDK that their authors import, and the worker program."""

from tailplane.workers.context import Context
from tailplane.workers.retries import Retry
from tailplane.workers.settings import Settings
from tailplane.workers.step_function import Step, step
from tailplane.workers.target import TargetNotFound, load_target
from tailplane.workers.worker import run_worker
from tailplane.workers.workflow import Workflow, workflow

__all__ = [
    "Context",
    "Retry",
    "Settings",
    "Step",
    "TargetNotFound",
    "Workflow",
    "load_target",
    "run_worker",
    "step",
    "workflow",
]
