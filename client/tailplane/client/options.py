"""What can be tuned about a client, with the reason of each default. No I/O."""

import os
import re
from dataclasses import dataclass, field
from datetime import timedelta

_SENDABLE = re.compile(r"[\x21-\x7e]{1,1000}")
DEFAULT_URL = "http://127.0.0.1:8420"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """When a lost stream is taken up again. The delay is drawn from 0 up to a bound that doubles: full jitter."""

    base: timedelta = timedelta(milliseconds=100)
    """The bound of the first delay. Short: most losses are one restarted process, and the next one answers at once."""

    cap: timedelta = timedelta(seconds=3)
    """The highest bound. Three thousand readers of a control plane that is away then ask 2,000 times a second, which
    the one that comes back bears; and each is there again 1.5 s after it on average."""

    give_up_after: timedelta | None = timedelta(minutes=5)
    """Time without any progress after which reading fails; None: never. Longer than a node's replacement takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """All that can be tuned about a client."""

    connect_timeout: timedelta = timedelta(seconds=5)
    """For one TCP and TLS handshake. A lost SYN is sent again after 1 and 3 seconds."""

    answer_timeout: timedelta = timedelta(seconds=30)
    """For the head of an answer, and between two pieces of it. A cancel, the slowest request, takes up to a second."""

    retry_for: timedelta = timedelta(seconds=30)
    """How long a request is repeated while the control plane can't be reached or is busy. A failover of Redis takes
    ten to twenty seconds."""

    close_timeout: timedelta = timedelta(seconds=5)
    """How long leaving a session by an exception may be held up by a control plane that does not answer."""

    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)

    keep_alive: timedelta = timedelta(seconds=15)
    """Assumed where a stream's head does not say it. A stream is taken for dead after three such times of silence."""

    buffer_bytes: int = 4 * 1024 * 1024
    """What a stream reads ahead of its consumer, in bytes on the wire; past it the socket is left unread, so that TCP
    slows the sender down. Enough for a tenth of a second at the fastest rate that one process decodes."""

    max_frame_bytes: int = 16 * 1024 * 1024
    """The largest entry taken from a stream. Workers send 1 MiB at the most, unless told otherwise; a bound against a
    broken peer, whose lists and maps take up to 75 times as much memory as on the wire."""


def control_plane_url(url: str | None) -> str:
    """Return the control plane's URL without a slash at the end: `url`, else TAILPLANE_URL, else this machine."""
    return (url or os.environ.get("TAILPLANE_URL") or DEFAULT_URL).rstrip("/")


def credential(api_key: str | None) -> dict[str, str]:
    """Return the header that signs requests: with `api_key`, else TAILPLANE_API_KEY; none where neither is there.

    Raises:
        ValueError: it is no key; the message does not show it.
    """
    key = (api_key if api_key is not None else os.environ.get("TAILPLANE_API_KEY", "")).strip()
    if key and not _SENDABLE.fullmatch(key):
        # What could not be sent as a header would be shown by the error that says so.
        raise ValueError("the API key has characters that no key has; one looks like tp_...")
    return {"authorization": f"Bearer {key}"} if key else {}
