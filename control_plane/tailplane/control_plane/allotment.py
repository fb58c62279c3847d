"""What a caller may take, and what it takes now: the answer of `GET /v1/limits`."""

from typing import Annotated, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from tailplane.broker import TenantRecord, queue_name
from tailplane.broker.usage import Left
from tailplane.control_plane import examples
from tailplane.control_plane.access import Caller
from tailplane.control_plane.services import Services
from tailplane.control_plane.survey import MOST_WORKFLOWS

PerSecond = Annotated[float, Field(description="Tasks that may be submitted per second.")]
SubmitsLeft = Annotated[int, Field(description="How many may be submitted at once now.")]
MaxReaders = Annotated[int, Field(description="Streams that may be read at once.")]


class KeyLimits(TypedDict):
    """What an API key may take, beside its tenant's other keys; a limit that it does not have is left out."""

    submits_per_second: NotRequired[PerSecond]
    submits_left: NotRequired[SubmitsLeft]
    max_readers: NotRequired[MaxReaders]
    readers: int


@with_config(ConfigDict(json_schema_extra={"examples": [examples.LIMITS]}))
class Limits(TypedDict):
    """What a tenant may take, and takes now; a limit that there is not is left out."""

    tenant: str
    weight: Annotated[int, Field(description="Its share of the workers' slots beside other tenants' weights.")]
    submits_per_second: NotRequired[PerSecond]
    submits_left: NotRequired[SubmitsLeft]
    max_queued: Annotated[int, Field(description="Tasks of one workflow that may wait.")]
    queued: Annotated[dict[str, int], Field(description="Tasks that wait, by workflow; those of which none does, not.")]
    max_running: NotRequired[int]
    running: Annotated[int, Field(description="Tasks that workers hold, as of a second ago at the most.")]
    max_readers: NotRequired[MaxReaders]
    readers: Annotated[
        int, Field(description="Streams that are read; without a limit, through the answering control plane alone.")
    ]
    max_stored_bytes: NotRequired[int]
    stored_bytes: Annotated[int, Field(description="What its tasks have written within the retention, by estimate.")]
    key_id: NotRequired[str]
    key: NotRequired[KeyLimits]


async def allotment(services: Services, caller: Caller) -> Limits:
    """Return what a caller may take, and takes.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    tenant, rates = await services.limiter.rates_of(caller)
    usage = services.broker.usage
    left = (await usage.take_submit(tenant.tenant, rates, None, only_look=True))[1] if rates else []
    await services.turnstile.look(caller)
    limits = Limits(
        tenant=tenant.tenant,
        weight=tenant.weight,
        max_queued=await services.tenants.max_queued(tenant.tenant),
        queued=await _queued(services, tenant.tenant),
        running=(await services.survey.standing()).running.get(tenant.tenant, 0),
        readers=services.turnstile.readers(tenant.tenant),
        stored_bytes=(await services.stored.find(tenant.tenant)).count,
    )
    _add_tenant(limits, tenant, [each for each in left if not each.rate.is_of_key])
    if caller.key_id is not None:
        key = await services.doorkeeper.known.find(caller.key_id)
        limits["key_id"] = caller.key_id
        limits["key"] = own = KeyLimits(readers=services.turnstile.readers(caller.key_id))
        if key is not None and key.max_readers is not None:
            own["max_readers"] = key.max_readers
        for each in left:
            if each.rate.is_of_key:
                own["submits_per_second"], own["submits_left"] = each.rate.per_second, each.submits
    return limits


def _add_tenant(limits: Limits, tenant: TenantRecord, left: list[Left]) -> None:
    for each in left:
        limits["submits_per_second"], limits["submits_left"] = each.rate.per_second, each.submits
    if tenant.max_running is not None:
        limits["max_running"] = tenant.max_running
    if tenant.max_readers is not None:
        limits["max_readers"] = tenant.max_readers
    if tenant.max_stored_bytes is not None:
        limits["max_stored_bytes"] = tenant.max_stored_bytes


async def _queued(services: Services, tenant: str) -> dict[str, int]:
    queue = services.broker.queue
    workflows = list(await queue.workflows())[:MOST_WORKFLOWS]
    names = {workflow: queue_name(tenant, workflow) for workflow in workflows}
    found = await queue.backlogs(list(names.values()))
    return {workflow: found[name].depth for workflow, name in names.items() if found[name].depth}
