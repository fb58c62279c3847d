"""The commands about API keys: `keys`, and its own `list`, `create`, `rotate`, `revoke`, `generate`; and `whoami`.

They ask a control plane, as the admin of one tenant; with `--direct` they go to Redis, as the operator of all.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, Url, ask, ask_directly
from tailplane.deploy.cli.groups import ListByDefault
from tailplane.deploy.cli.moments import describe_moment, parse_duration

if TYPE_CHECKING:
    from tailplane.broker import Broker
    from tailplane.broker.api_keys import KeyRecord
    from tailplane.client import ApiKeyInfo, Client, NewApiKey
    from tailplane.protocol.credentials import ApiKey
    from tailplane.protocol.scopes import Scope

app = typer.Typer(rich_markup_mode=None, cls=ListByDefault)

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key: k_...")]
Direct = Annotated[
    bool, typer.Option("--direct", help="Straight in Redis (TAILPLANE_REDIS_URL, TAILPLANE_PREFIX), as the operator.")
]
Tenant = Annotated[str | None, typer.Option(help="With --direct: whose keys.", show_default="default")]

_DAY = timedelta(hours=24)


def parse_grace(text: str) -> timedelta:
    """Return a duration, which may be 0.

    Raises:
        typer.BadParameter: it is none.
    """
    return timedelta() if text == "0" else parse_duration(text)


@app.callback()
def keys() -> None:
    """Create, list, rotate and revoke API keys. Without a command: list them."""


@app.command("list")
def list_keys(
    direct: Direct = False,
    tenant: Annotated[str | None, typer.Option(help="With --direct: whose keys.", show_default="all tenants'")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List the API keys, the oldest first; those that have ended, too."""
    _check(direct, tenant)

    async def look(client: "Client") -> "list[ApiKeyInfo]":
        return [each async for each in client.keys()]  # noqa: SIM118 (a method, not a dict's)

    async def look_directly(broker: "Broker") -> "list[ApiKeyInfo]":
        return [_info(each) for each in await _records(broker, tenant)]

    found = ask_directly(look_directly) if direct else ask(url, look)
    if as_json:
        terminal.print_json({"keys": [each.model_dump(exclude_none=True) for each in found]})
        return
    from tailplane.deploy.cli.tables import print_keys

    print_keys(found, with_tenants=direct)
    if not found:
        terminal.say("there are no API keys", stderr=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="What people tell it by.")],
    scopes: Annotated[str, typer.Option(help="Of submit, read, cancel and admin, with commas.")] = "submit,read,cancel",
    expires_in: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_duration, metavar="DURATION", help="When it ends by itself: 90d.", show_default="never"
        ),
    ] = None,
    submits_per_second: Annotated[float | None, typer.Option(help="How many tasks it may submit a second.")] = None,
    max_readers: Annotated[int | None, typer.Option(min=1, help="How many streams it may read at once.")] = None,
    direct: Direct = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Create an API key, and print it. It can't be printed again."""
    _check(direct, tenant)
    wanted = _parse_scopes(scopes)
    if direct:
        from tailplane.control_plane.key_models import NewApiKey as Body
        from tailplane.protocol.ids import DEFAULT_TENANT

        # As a control plane would: what is kept must be what every reader of it can take.
        body = _valid(
            Body,
            name=name,
            scopes=wanted,
            expires_in_ms=None if expires_in is None else round(expires_in.total_seconds() * 1000),
            submits_per_second=submits_per_second,
            max_readers=max_readers,
        )
        _tell(_told(*ask_directly(lambda broker: broker.api_keys.create(body.of(tenant or DEFAULT_TENANT)))), as_json)
        return
    _tell(
        ask(
            url,
            lambda client: client.create_key(
                name,
                wanted,
                expires_in=expires_in,
                submits_per_second=submits_per_second,
                max_readers=max_readers,
            ),
        ),
        as_json,
    )


@app.command("rotate")
def rotate(
    key_id: KeyId,
    grace: Annotated[
        timedelta,
        typer.Option(
            parser=parse_grace,
            metavar="DURATION",
            help="How long the secrets before are good, too: 1h, 0.",
            show_default="24h",
        ),
    ] = _DAY,
    direct: Direct = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Give an API key a new secret, and print it. It can't be printed again."""
    if direct:
        from tailplane.control_plane.key_models import Rotation

        body = _valid(Rotation, grace_ms=round(grace.total_seconds() * 1000))
        found = _key_id(key_id)
        _tell(_told(*ask_directly(lambda broker: broker.api_keys.rotate(found, body.grace))), as_json)
        return
    _tell(ask(url, lambda client: client.rotate_key(key_id, grace=grace)), as_json)


@app.command("revoke")
def revoke(key_id: KeyId, direct: Direct = False, url: Url = None) -> None:
    """Let an API key be good for nothing, within two seconds and for good. With --direct also the last admin's."""
    if direct:
        found = _key_id(key_id)
        ask_directly(lambda broker: broker.api_keys.revoke(found))
    else:
        ask(url, lambda client: client.revoke_key(key_id))
    terminal.say(f"{terminal.printable(key_id)} is revoked")


@app.command("generate")
def generate() -> None:
    """Print an API key for TAILPLANE_ADMIN_KEY. Nobody is asked, and nothing is kept of it here."""
    from tailplane.protocol.credentials import ApiKey
    from tailplane.protocol.ids import new_key_id

    terminal.tell(ApiKey.draw(new_key_id()).text)


def whoami(as_json: AsJson = False, url: Url = None) -> None:
    """Say whom the control plane takes this command line for, and what that one may do."""
    found = ask(url, lambda client: client.whoami())
    if as_json:
        terminal.print_json(found.model_dump(exclude_none=True))
        return
    who = "nobody signs in" if found.key_id is None else f"{found.key_id} ({terminal.printable(found.name or '')})"
    ends = "" if found.expires_at is None else f", until {describe_moment(found.expires_at)}"
    terminal.say(f"{who}, tenant {found.tenant}: {', '.join(found.scopes)}{ends}")


def _check(direct: bool, tenant: str | None) -> None:
    if tenant is not None and not direct:
        raise typer.BadParameter(
            "a key is of one tenant: other ones' are there with --direct only", param_hint="--tenant"
        )
    if tenant is not None:
        from tailplane.protocol.errors import InvalidId
        from tailplane.protocol.ids import check_tenant

        try:
            check_tenant(tenant)
        except InvalidId as error:
            raise typer.BadParameter(error.detail, param_hint="--tenant") from None


def _parse_scopes(text: str) -> "list[Scope]":
    from tailplane.protocol.scopes import Scope

    try:
        return sorted({Scope(each.strip()) for each in text.split(",")})
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: give some of {', '.join(Scope)}, with commas", param_hint="--scopes"
        ) from None


def _key_id(text: str) -> Any:
    from tailplane.protocol.ids import parse_key_id

    return parse_key_id(text)


def _valid(model: Any, **said: object) -> Any:
    from tailplane.control_plane.bodies import parse

    return parse(model, {name: value for name, value in said.items() if value is not None})


async def _records(broker: "Broker", tenant: str | None) -> "list[KeyRecord]":
    found: list[KeyRecord] = []
    for each in [tenant] if tenant is not None else await broker.tenants.names():
        after = None
        while True:
            page = await broker.api_keys.page(each, after, 200)
            found += page.keys
            if (after := page.next) is None:
                break
    return found


def _info(record: "KeyRecord") -> "ApiKeyInfo":
    from tailplane.client import ApiKeyInfo
    from tailplane.control_plane.key_models import key_form

    return ApiKeyInfo.model_validate(key_form(record))


def _told(record: "KeyRecord", key: "ApiKey") -> "NewApiKey":
    from tailplane.client import NewApiKey
    from tailplane.control_plane.key_models import key_form_with_text

    return NewApiKey.model_validate(key_form_with_text(record, key))


def _tell(made: "NewApiKey", as_json: bool) -> None:
    if as_json:
        from tailplane.protocol import json_codec

        terminal.tell(json_codec.to_json(made.model_dump(exclude_none=True)).decode())
        return
    terminal.say(
        f"{made.key_id} ({terminal.printable(made.name)}) of the tenant {made.tenant}: {', '.join(made.scopes)}",
        stderr=True,
    )
    if made.previous_until is not None:
        terminal.say(f"the secret before is good until {describe_moment(made.previous_until)}", stderr=True)
    terminal.say("keep it: it can't be printed again", stderr=True)
    terminal.tell(made.key)
