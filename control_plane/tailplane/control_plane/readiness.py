"""Whether a control plane can take requests: asked by `/readyz` of its API, and of the listener."""

import asyncio
from concurrent.futures import CancelledError, Future
from typing import Any

from fastapi import FastAPI

from tailplane.broker.listener import Verdict
from tailplane.broker.pulse import Pulse
from tailplane.protocol.errors import StoreUnavailable, TailplaneError, Unavailable

# Seconds. Probes give up after a second or two by themselves.
PING_DEADLINE = 1.0
# Seconds that the listener waits for the loop's answer.
_LOOP_DEADLINE = 1.5
# Seconds without a turn of the loop, past which nobody can be served and the process should be started anew.
_DEAD_AFTER = 10.0


async def check_ready(app: FastAPI) -> None:
    """Return if Redis answers and is fit, and the process is not about to stop.

    Raises:
        Unavailable: it is not ready; the detail says why.
        StoreUnavailable: Redis does not answer.
    """
    if (refusal := app.state.refusal) is not None:
        raise Unavailable(refusal.detail, hint=refusal.hint)
    if app.state.leaving.is_set() or app.state.drain.is_set():
        raise Unavailable("this control plane is about to stop")
    try:
        async with asyncio.timeout(PING_DEADLINE):
            await app.state.services.broker.answers()
    except TimeoutError:
        raise StoreUnavailable("Redis does not answer in time") from None


class Vitals:
    """What the listener's thread may ask of an application, whose loop is another thread's.

    Attributes:
        pulse: of the loop; started and stopped by the application.
    """

    def __init__(self, app: FastAPI) -> None:
        self.pulse = Pulse()
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """Note the running loop as the application's."""
        self._loop = asyncio.get_running_loop()
        self.pulse.start()

    def end(self) -> None:
        """Note that the loop is about to end."""
        self.pulse.stop()
        self._loop = None

    def live(self) -> Verdict:
        """Return whether the loop turns."""
        late = self.pulse.late
        return Verdict(late < _DEAD_AFTER, {"loop_late_s": round(late, 1)})

    def ready(self) -> Verdict:
        """Return what `check_ready` says; a loop that does not answer is not ready."""
        loop = self._loop
        if loop is None:
            return _not_ready("this control plane starts, or has ended")
        asked: Future[Any] | None = None
        try:
            asked = asyncio.run_coroutine_threadsafe(check_ready(self._app), loop)
            asked.result(_LOOP_DEADLINE)
        except TimeoutError:
            assert asked is not None
            asked.cancel()
            return _not_ready("the loop does not answer")
        except TailplaneError as error:
            return _not_ready(error.detail or error.title)
        except (RuntimeError, CancelledError):
            return _not_ready("this control plane has ended")
        return Verdict(True, {"status": "ready"})


def _not_ready(reason: str) -> Verdict:
    return Verdict(False, {"status": "not ready", "reason": reason})
