"""What a control plane can be told, beside what its deployment shares. Read once, from the environment."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from tailplane.broker.settings import DeploymentSettings, Duration, none_if_empty
from tailplane.control_plane.cors import parse_origins
from tailplane.protocol.credentials import ApiKey
from tailplane.protocol.errors import Unauthenticated
from tailplane.protocol.urls import is_loopback


def _check_key(key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    if key is not None:
        if info.data.get("auth") == "none":
            # Whoever sets a key counts on its being asked for.
            raise ValueError("it opens nothing where TAILPLANE_AUTH=none lets everybody in: set that to keys")
        try:
            ApiKey.parse(key.get_secret_value())
        except Unauthenticated as error:
            raise ValueError(error.detail) from None
    return key


def _check_origins(text: str) -> str:
    parse_origins(text)
    return text


class Settings(DeploymentSettings):
    """The settings of one control plane."""

    host: str = "127.0.0.1"
    """The address to listen on. The default is reached from this machine only; see `auth` before another one is set."""

    port: int = Field(8420, ge=0, le=65535)
    """The port to listen on; 0 for a free one."""

    auth: Annotated[Literal["keys", "none"] | None, BeforeValidator(none_if_empty)] = None
    """`keys`: every request needs an API key, and there must be one before this process serves. `none`: everybody who
    reaches the port may do everything. None, or empty: as `none`, but by programs of this machine only, where `host` is
    a loopback address; elsewhere as `keys`."""

    admin_key: Annotated[SecretStr | None, BeforeValidator(none_if_empty), AfterValidator(_check_key)] = None
    """The first API key, as `tailplane keys generate` prints one: a control plane makes it known, with all
    rights of the tenant `default`, at its start and where Redis has lost it. One that was revoked stays revoked while
    Redis has that: take it out of the settings, too. Refused with `auth` `none`. None: keys are made at the command
    line."""

    cors_origins: Annotated[str, AfterValidator(_check_origins)] = ""
    """Whose pages browsers may let read answers: origins with commas between them, such as `https://app.example`. Each
    by its name, `*` is refused. Empty: nobody's. See docs/browsers.md."""

    keep_alive: Duration = timedelta(seconds=5)
    """A stream on which nothing happened for this long sends a keep-alive. Far below the idle limit of proxies (60 s),
    and readers take a connection for dead after three of them."""

    max_body_bytes: int = Field(1024 * 1024, ge=1024)
    """The largest request body, in bytes. Inputs live in Redis' memory: larger data belongs in a store of its own."""

    max_body_containers: int = Field(65_536, ge=16)
    """How many lists and maps a request's body may have. Each takes up to 220 bytes of memory and one byte of a body:
    without this bound, 1 MiB becomes 75 MB and takes half a second to read. So many are 15 MB."""

    body_timeout: Duration = timedelta(seconds=10)
    """How long a request's body may go without progress, which is 4 KiB; then the answer is 408."""

    max_connections: int = Field(20_000, ge=1)
    """How many connections this process takes; a further one is answered 503. Each takes memory, 160 KiB where its
    client is slow, and a file: the process raises its limit of open files as far as it may (`ulimit -Hn`), and
    that, less 100 for Redis and logs, counts where it is lower."""

    head_timeout: Duration = timedelta(seconds=10)
    """How long a request's head may take, from its first byte, and how long a new connection may send nothing at all.
    Slow links take a second; who sends a byte now and then, to hold a connection, gets 408."""

    max_head_bytes: int = Field(48 * 1024, ge=1024)
    """How long a request's head may be, its URL and headers; beyond that the answer is 431. The cursor of a session is
    at most 16 KiB, and may be there twice, in the URL and as `Last-Event-ID`."""

    max_headers: int = Field(100, ge=16)
    """How many headers a request may have; beyond that the answer is 431. Browsers behind several proxies send 40."""

    max_url_bytes: int = Field(20 * 1024, ge=256)
    """How long a request's URL may be; beyond that the answer is 414. The cursor of a session is at most 16 KiB."""

    send_timeout: Duration = timedelta(seconds=60)
    """How long a client may leave an answer unread before its connection is cut off. Streams are not held to this: a
    reader may take its time, costs 160 KiB at the most, and goes on from where it was."""

    max_queued: int = Field(100_000, ge=1)
    """How many tasks of one tenant and workflow may wait, where the tenant has no bound of its own; a submit beyond
    that is refused with 429. With small inputs so many take 0.6 GB of Redis' memory, and at 1,000 tasks a second their
    backlog takes 100 s: most callers have given up by then. A deployment that collects work for the night wants more,
    and the memory for it."""

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

    @property
    def origins(self) -> frozenset[str]:
        """Whose pages may read answers."""
        return parse_origins(self.cors_origins)

    @property
    def demands_keys(self) -> bool:
        """Whether requests need a credential."""
        return self.auth == "keys" or (self.auth is None and not is_loopback(self.host))
