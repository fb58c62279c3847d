"""The service's settings, from the environment."""

import os

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
BATCHED = os.environ.get("BATCHED") == "1"
MAX_JOBS = int(os.environ.get("MAX_JOBS", "10"))

# Streams are kept for an hour after their end.
RETENTION_S = 3600


def events_key(task_id: str) -> str:
    return f"events:{task_id}"
