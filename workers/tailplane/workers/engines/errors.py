"""What can be wrong with another library's workflow, and how its own time-out is told.

EngineUnfit      it can't be served: the text says what is needed
EngineTimeout    the library's own time for the run was up
"""

from tailplane.protocol.errors import TailplaneError


class EngineUnfit(TailplaneError):
    """The library's version was not tried, or the object needs what can't be kept from one attempt to the next."""

    code = "engine_unfit"
    title = "This workflow can't be served"


class EngineTimeout(TimeoutError):
    """The run took longer than its workflow allows."""
