"""How the peers' servers are served. Runs in their environments."""

from typing import Any

import uvicorn


def serve(app: Any, port: str) -> None:
    """Run an ASGI application on this machine until it is stopped."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=60,
    )
