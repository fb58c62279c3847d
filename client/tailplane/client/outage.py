"""What the log and the caller are told when the control plane can't be reached. No I/O but the log.

One warning per outage and client: whoever waits for a request's 30 s must not take it for a hang, and a thousand
streams must not say the same thousand times.
"""

import logging
from datetime import timedelta

import httpx2

from tailplane.client.problems import with_hint
from tailplane.protocol.errors import ConnectionLost

logger = logging.getLogger("tailplane.client")


class Outage:
    """Whether the control plane at one URL could be reached at the last try."""

    def __init__(self, url: str) -> None:
        """Begin without a doubt. `url` is told to everybody."""
        self._url = url
        self._is_told = False

    def failed(self, error: Exception, retry_for: timedelta | None) -> None:
        """Warn if a connection could not be made, the first time since an answer.

        Args:
            error: why a try failed; one on a connection that was made is no reason to warn.
            retry_for: for how long it will be tried again; None: for ever.
        """
        if self._is_told or not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return
        self._is_told = True
        until = "until it can" if retry_for is None else f"for {retry_for.total_seconds():g} s"
        logger.warning("the control plane at %s can't be reached: trying %s", self._url, until)

    def answered(self) -> None:
        """Note that it can be reached."""
        if self._is_told:
            self._is_told = False
            logger.warning("the control plane at %s is reached again", self._url)

    def connection_lost(self, error: Exception) -> ConnectionLost:
        """Return what to tell the caller of a connection's failure: all there is to know, without a chain of errors."""
        name = type(error).__name__
        return with_hint(
            ConnectionLost(f"{self._url} can't be reached: {f'{name}: {error}' if str(error) else name}"),
            f"is a control plane running at {self._url}? `tailplane dev` starts one on this machine; "
            "TAILPLANE_URL, or the client's url, says where another is",
        )
