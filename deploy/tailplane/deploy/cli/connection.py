"""How a command meets the control plane: one client, impatient, and errors that say where it looked."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from tailplane.client import Client

T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option(envvar="TAILPLANE_URL", help="The control plane.", show_default="http://127.0.0.1:8420"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for another program to read, and nothing else.")]
AsJsonLines = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document a line, and nothing else."),
]

# A person waits, and most often nothing runs there at all: an application's 30 s would look like a hang.
_RETRY_FOR = timedelta(seconds=1)


def ask(url: str | None, question: Callable[["Client"], Coroutine[Any, Any, T]]) -> T:
    """Run `question` with a client of the control plane at `url` (None: TAILPLANE_URL, else this machine's 8420).

    Raises:
        TailplaneError: what the client raises; ConnectionLost and UnknownWorkflow with the command line's own hint.
        typer.BadParameter: `url` is none.
    """
    from tailplane.client import Client, ClientOptions
    from tailplane.protocol.errors import ConnectionLost, UnknownWorkflow
    from tailplane.protocol.urls import mask_url

    async def run(client: "Client") -> T:
        async with client:
            return await question(client)

    try:
        client = Client(url, options=ClientOptions(retry_for=_RETRY_FOR))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url or TAILPLANE_URL") from None
    # The error tells all that the client would log: without a handler, Python prints warnings beside it.
    logging.getLogger("tailplane.client").addHandler(logging.NullHandler())
    try:
        return asyncio.run(run(client))
    except ConnectionLost as error:
        error.hint = (
            f"is a control plane running at {mask_url(client.url)}? "
            "`tailplane dev` starts one here; TAILPLANE_URL says where another is"
        )
        raise
    except UnknownWorkflow as error:
        error.hint = "`tailplane workflows` lists those there are; is a worker running?"
        raise
