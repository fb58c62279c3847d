"""What an admin is told of the fleet, which runs the tasks of all tenants (docs/decisions/0025).

That of the default tenant is told all: it is the tenant of who runs the deployment. That of another one is told how its
own tasks stand, and which workers there are; neither where these run, nor what others have waiting or running.
"""

from tailplane.broker import queue_name
from tailplane.control_plane.forms import Fleet, Worker, fleet_form, worker_form, worker_form_for_others
from tailplane.control_plane.services import Services
from tailplane.protocol.ids import DEFAULT_TENANT


async def workers_for(services: Services, tenant: str) -> list[Worker]:
    """Return the workers that hold a lease.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    workers = await services.broker.queue.workers()
    if tenant == DEFAULT_TENANT:
        return [worker_form(each) for each in workers]
    running = await services.broker.usage.running([each.worker_id for each in workers])
    return [worker_form_for_others(each, running[each.worker_id][tenant]) for each in workers]


async def fleet_for(services: Services, tenant: str) -> Fleet:
    """Return how the deployment stands; of workers a second ago at the most.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    standing = await services.survey.standing()
    dead_letters = standing.dead_letters.get(tenant, 0)
    if tenant == DEFAULT_TENANT:
        return fleet_form(standing, standing.backlogs, [worker_form(each) for each in standing.workers], dead_letters)
    names = {workflow: queue_name(tenant, workflow) for workflow in standing.backlogs}
    found = await services.broker.queue.backlogs(list(names.values()))
    workers = [worker_form_for_others(each, standing.running_on[each.worker_id][tenant]) for each in standing.workers]
    return fleet_form(standing, {workflow: found[name] for workflow, name in names.items()}, workers, dead_letters)
