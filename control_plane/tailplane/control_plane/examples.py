"""The examples that the OpenAPI document shows."""

from typing import Any

TASK_ID = "t_01jd3z0v9m6s8k2x4q7w5e1r0t"
SESSION_ID = "s_01jd3z0v9m6s8k2x4q7w5e1r0t"
KEY_ID = "k_01jd3z0v9m6s8k2x4q7w5e1r0t"
WORKER_ID = "w_01jd3z0v9m6s8k2x4q7w5e1r0t"

TOKEN_ID = "k_01jd3z0v9m6s8k2x4q7w5e1r0t.q0m3yq8uU8D3Qv0r"

SESSION: dict[str, Any] = {
    "session_id": SESSION_ID,
    "created_at": 1767225600.25,
    "closed": False,
    "metadata": {"user": "ada"},
}

API_KEY: dict[str, Any] = {
    "key_id": KEY_ID,
    "tenant": "default",
    "name": "billing",
    "scopes": ["read", "submit"],
    "created_at": 1767225600.25,
}
API_KEY_TEXT = "tp_01jd3z0v9m6s8k2x4q7w5e1r0t_" + "x" * 43

STATE_VALUE: dict[str, Any] = {"key": "plan", "value": {"step": 2}, "version": 2}

TASK: dict[str, Any] = {
    "task_id": TASK_ID,
    "workflow": "my_workflow",
    "version": "1",
    "state": "succeeded",
    "attempt": 1,
    "created_at": 1767225600.25,
    "started_at": 1767225600.252,
    "ended_at": 1767225602.0,
    "session_id": SESSION_ID,
    "worker_id": WORKER_ID,
    "metadata": {"user": "ada"},
    "position": 0,
    "result": "done",
}

STEP: dict[str, Any] = {
    "id": "0",
    "name": "fetch",
    "kind": "step",
    "attempt": 1,
    "started_at": 1767225600.26,
    "ended_at": 1767225600.9,
    "seqs": [4, 9],
}

DEAD_LETTER: dict[str, Any] = {
    "task_id": TASK_ID,
    "workflow": "my_workflow",
    "version": "1",
    "error": {"code": "workflow_error", "type": "builtins.ValueError", "message": "n is too large"},
    "attempts": 3,
    "created_at": 1767225600.25,
    "ended_at": 1767225602.0,
    "session_id": SESSION_ID,
    "metadata": {"user": "ada"},
}

WORKFLOW: dict[str, Any] = {
    "name": "my_workflow",
    "version": "1",
    "description": "Counts to n.",
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    "input_optional": False,
    "timeout_ms": 60000,
    "max_attempts": 3,
}

WORKER: dict[str, Any] = {
    "worker_id": WORKER_ID,
    "host": "worker-1",
    "pid": 4711,
    "version": "0.1.0",
    "workflows": ["my_workflow"],
    "concurrency": 100,
    "running": 3,
    "started_at": 1767225600.25,
    "lease_ms": 2700,
}

PROBLEM: dict[str, Any] = {
    "type": "urn:tailplane:problem:task_not_found",
    "title": "No such task",
    "status": 404,
    "detail": f"there is no task {TASK_ID}",
    "code": "task_not_found",
}

FLEET: dict[str, Any] = {
    "queues": [{"workflow": "my_workflow", "depth": 3, "oldest_age_ms": 1250, "workers": 1}],
    "workers": [WORKER],
    "dead_letters": 0,
}

NEW_SCHEDULE: dict[str, Any] = {
    "workflow": "my_workflow",
    "input": {"n": 3},
    "cron": "0 3 * * *",
    "time_zone": "Europe/Berlin",
    "overlap": "skip",
}

SCHEDULE: dict[str, Any] = {
    "name": "nightly",
    **NEW_SCHEDULE,
    "metadata": {},
    "catch_up": "latest",
    "misfire_grace_ms": 86_400_000,
    "paused": False,
    "created_at": 1767225600.25,
    "updated_at": 1767225600.25,
    "next_at": 1767319200.0,
    "last_due_at": 1767232800.0,
    "last_fired_at": 1767232800.1,
    "last_task_id": TASK_ID,
    "fired": 1,
    "missed": 0,
    "skipped": 0,
}

LIMITS: dict[str, Any] = {
    "tenant": "acme",
    "weight": 1,
    "submits_per_second": 50.0,
    "submits_left": 50,
    "max_queued": 1000,
    "queued": {"my_workflow": 3},
    "max_running": 20,
    "running": 2,
    "max_readers": 100,
    "readers": 4,
    "max_stored_bytes": 1_000_000_000,
    "stored_bytes": 52_428_800,
    "key_id": "k_01jd3z0v9m6s8k2x4q7w5e1r0t",
    "key": {"submits_per_second": 5.0, "submits_left": 4, "readers": 1},
}
