"""What a control plane can be told, beside what its deployment shares. Read once, from the environment."""

from datetime import timedelta

from pydantic import Field

from tailplane.broker.settings import DeploymentSettings, Duration


class Settings(DeploymentSettings):
    """The settings of one control plane."""

    host: str = "127.0.0.1"
    """The address to listen on. The default is reached from this machine only, since there is no authentication yet."""

    port: int = Field(8420, ge=0, le=65535)
    """The port to listen on; 0 for a free one."""

    keep_alive: Duration = timedelta(seconds=5)
    """A stream on which nothing happened for this long sends a keep-alive. Far below the idle limit of proxies (60 s),
    and readers take a connection for dead after three of them."""

    max_body_bytes: int = Field(1024 * 1024, ge=1024)
    """The largest request body, in bytes. Inputs live in Redis' memory: larger data belongs in a store of its own."""

    max_queued: int = Field(100_000, ge=1)
    """How many tasks of one workflow may wait; a submit beyond that is refused with 429. With small inputs so many take
    0.6 GB of Redis' memory, and at 1,000 tasks a second their backlog takes 100 s: most callers have given up by then.
    A deployment that collects work for the night wants more, and the memory for it."""

    max_messages: int = Field(10_000, ge=1)
    """How many messages a task may ever get. They stay in its record, and a later attempt reads all of them."""

    max_inbox_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """How many bytes of msgpack all messages of a task may have: workers and control planes read them at once."""

    drain_delay: Duration | None = None
    """How long a process that is told to stop goes on as before, while its `/readyz` says 503 already: load balancers
    notice, and send nothing more, before it closes its port. None: it closes at once, and what was just sent may be
    refused. About three of the balancer's checks; docker-compose.yml has 3 s."""

    drain_grace: Duration = timedelta(seconds=10)
    """How long a stopping process waits for its responses to end. Streams end at once: this is for other calls."""
