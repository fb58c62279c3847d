"""How a command meets the control plane: one client, impatient, and errors that say where it looked."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from tailplane.broker import Broker
    from tailplane.client import Client
    from tailplane.protocol.errors import RequestError

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


def ask_directly(question: Callable[["Broker"], Coroutine[Any, Any, T]]) -> T:
    """Run `question` with the stores of the deployment that TAILPLANE_REDIS_URL and TAILPLANE_PREFIX name.

    Raises:
        TailplaneError: what the stores raise; StoreUnavailable with the command line's own hint.
        typer.Exit: the environment has a setting that is none.
    """
    from tailplane.broker.settings import DeploymentSettings
    from tailplane.deploy.cli.servers import read_settings
    from tailplane.deploy.operator import opened_broker
    from tailplane.protocol.errors import StoreUnavailable
    from tailplane.protocol.urls import mask_url

    settings = read_settings(DeploymentSettings)

    async def run() -> T:
        async with opened_broker(settings) as broker:
            return await question(broker)

    try:
        return asyncio.run(run())
    except StoreUnavailable as error:
        error.hint = f"it asked {mask_url(settings.redis_url)}; TAILPLANE_REDIS_URL says where else, and as whom"
        raise


def ask(url: str | None, question: Callable[["Client"], Coroutine[Any, Any, T]]) -> T:
    """Run `question` with a client of the control plane at `url` (None: TAILPLANE_URL, else this machine's 8420).

    Raises:
        TailplaneError: what the client raises; ConnectionLost, UnknownWorkflow, Unauthenticated, Forbidden and what
            goes beyond a limit with the command line's own hint.
        typer.BadParameter: `url` is none, or the API key in the environment.
    """
    from tailplane.client import Client, ClientOptions
    from tailplane.protocol.errors import (
        ConnectionLost,
        Forbidden,
        QueueFull,
        QuotaExceeded,
        RateLimited,
        TooManyReaders,
        Unauthenticated,
        UnknownWorkflow,
    )
    from tailplane.protocol.urls import mask_url

    async def run(client: "Client") -> T:
        async with client:
            return await question(client)

    # The error tells all that the client would log, and `doctor` what it would warn of: without a handler, Python would
    # print that beside it.
    logging.getLogger("tailplane.client").addHandler(logging.NullHandler())
    try:
        client = Client(url, options=ClientOptions(retry_for=_RETRY_FOR))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url, TAILPLANE_URL or TAILPLANE_API_KEY") from None
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
    except (Unauthenticated, Forbidden) as error:
        error.hint = _hint_of(error, mask_url(client.url))
        raise
    except (QueueFull, QuotaExceeded, RateLimited, TooManyReaders) as error:
        from tailplane.deploy.cli.progress import describe_age

        wait = describe_age(error.retry_after)
        error.hint = f"come again in {wait}; `tailplane limits` says what may be taken, and what is"
        raise


def _hint_of(error: "RequestError", url: str) -> str:
    from tailplane.protocol.errors import CredentialExpired, Forbidden

    if not os.environ.get("TAILPLANE_API_KEY", "").strip():
        # Where nobody signs in, Forbidden says so itself.
        asked = f"{url} wants an API key: set TAILPLANE_API_KEY. `tailplane keys create` makes one"
        return error.hint or asked if isinstance(error, Forbidden) else f"{asked}, with --direct where you reach Redis"
    if isinstance(error, Forbidden):
        return "`tailplane whoami` says what the key in TAILPLANE_API_KEY may do; `tailplane keys create` makes others"
    if isinstance(error, CredentialExpired):
        return "the time of the key in TAILPLANE_API_KEY has passed: `tailplane keys create` makes another one"
    return (
        f"{url} does not take the key in TAILPLANE_API_KEY: is it another deployment's, or was it revoked or rotated? "
        "`tailplane keys` tells an admin"
    )
