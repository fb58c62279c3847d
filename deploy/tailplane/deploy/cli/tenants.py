"""The commands about tenants: `tenants`, and its own `list` and `set`. They go to Redis: tenants are the operator's."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailplane.deploy.cli import terminal
from tailplane.deploy.cli.connection import AsJson, ask_directly
from tailplane.deploy.cli.groups import ListByDefault

if TYPE_CHECKING:
    from tailplane.broker import Broker, TenantRecord

app = typer.Typer(rich_markup_mode=None, cls=ListByDefault)


def _bound_option(what: str) -> Any:
    return typer.Option(metavar="NUMBER|none", help=what, show_default="as it is")


@app.callback()
def tenants() -> None:
    """List the tenants, and set what each may take; in Redis, as the operator. Without a command: list them."""


@app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """List the tenants with their limits; one without has those of the deployment."""
    _tell(list(ask_directly(lambda broker: broker.tenants.all()).values()), as_json)


@app.command("set")
def set_limits(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant; one that is new is made.")],
    weight: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Its share beside others' weights.", show_default="as it is")
    ] = None,
    max_running: Annotated[str | None, _bound_option("Tasks that run at once.")] = None,
    max_queued: Annotated[str | None, _bound_option("Tasks of a workflow that wait.")] = None,
    submits_per_second: Annotated[str | None, _bound_option("Tasks submitted a second.")] = None,
    max_readers: Annotated[str | None, _bound_option("Streams read at once.")] = None,
    max_stored_bytes: Annotated[str | None, _bound_option("Bytes kept of its tasks.")] = None,
    as_json: AsJson = False,
) -> None:
    """Set what a tenant may take. What is not given stays as it is; `none` takes a limit away."""
    wanted: dict[str, Any] = {
        field: _bound(field, said, kind)
        for field, said, kind in (
            ("max_running", max_running, int),
            ("max_queued", max_queued, int),
            ("submits_per_second", submits_per_second, float),
            ("max_readers", max_readers, int),
            ("max_stored_bytes", max_stored_bytes, int),
        )
        if said is not None
    }
    if weight is not None:
        wanted["weight"] = weight

    async def put(broker: "Broker") -> "TenantRecord":
        from tailplane.broker import TenantRecord

        there = await broker.tenants.read(name) or TenantRecord(name)
        return await broker.tenants.set_limits(replace(there, **wanted))

    _tell([ask_directly(put)], as_json)


def _bound(field: str, said: str, kind: type) -> float | None:
    from tailplane.broker import TenantRecord

    if said == "none":
        return None
    try:
        bound: float = kind(said)
        TenantRecord("any", **{field: bound})  # type: ignore[arg-type]
    except ValueError:
        option = f"--{field.replace('_', '-')}"
        raise typer.BadParameter(f"{said!r} is no number that it can be, and not none", param_hint=option) from None
    return bound


def _tell(records: "list[TenantRecord]", as_json: bool) -> None:
    if as_json:
        plain = [{name: value for name, value in asdict(each).items() if value is not None} for each in records]
        terminal.print_json({"tenants": plain})
        return
    from tailplane.deploy.cli.tables import print_tenants

    print_tenants(records)
