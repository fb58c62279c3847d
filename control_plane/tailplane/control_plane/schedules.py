"""Schedules as their owners see them: put, looked at, paused, resumed, triggered, deleted. `Scheduler` fires them."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from tailplane.broker import Broker, Request, TaskRecord
from tailplane.broker.records import Fired
from tailplane.broker.schedules import Behind, ScheduleRecord, ScheduleSpec
from tailplane.control_plane.clock import Clock
from tailplane.control_plane.limiter import Allowance
from tailplane.control_plane.submit import Submission, Submitter
from tailplane.control_plane.timetable import Timetable
from tailplane.protocol import codec
from tailplane.protocol.errors import InvalidRequest, ScheduleNotFound, Unavailable

# A schedule can't be changed, or fire, often while we look; past this something is wrong.
_MOST_TRIES = 10

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Schedules:
    """The schedules of one deployment."""

    broker: Broker
    submitter: Submitter
    clock: Clock

    async def put(self, tenant: str, name: str, spec: ScheduleSpec) -> tuple[ScheduleRecord, bool]:
        """Put a schedule, or replace the one of that name; return it, and whether it is new.

        One that says the same already stays as it is, also where its time has passed. What replaces another one fires
        no due time again that was fired, fires those of its own that were due meanwhile, and is paused where that was.

        Raises:
            UnknownWorkflow, InvalidInput: it can't be run.
            InvalidRequest: it would never fire.
        """
        await self.submitter.check(spec.workflow, codec.unpack(spec.input))
        (there,) = await self.broker.schedules.read_many(tenant, [name])
        if there is not None and there.spec == spec:
            return there, False
        after_ms = now_ms = await self.clock.now_ms()
        if there is not None and there.next_ms is not None:
            # What is due already, and not fired yet, is not lost by it.
            after_ms = min(now_ms, there.next_ms - 1)
        for _ in range(_MOST_TRIES):
            next_ms = Timetable(spec, now_ms).next_after(after_ms)
            if next_ms is None:
                raise InvalidRequest("the schedule would never fire: no due time of it lies ahead", name=name)
            try:
                outcome = await self.broker.schedules.put(tenant, name, spec, next_ms, now_ms)
            except Behind as behind:
                after_ms = behind.last_due_ms
                continue
            log.info("schedule put", schedule=name, outcome=outcome)
            return await self.find(tenant, name), outcome == "made"
        raise Unavailable(f"schedule {name!r} fires all the time", name=name)

    async def find(self, tenant: str, name: str) -> ScheduleRecord:
        """Return a schedule.

        Raises:
            ScheduleNotFound: there is none.
        """
        return await self.broker.schedules.read(tenant, name)

    async def page(self, tenant: str, *, limit: int, after: str | None) -> tuple[list[ScheduleRecord], str | None]:
        """Return schedules by name, from behind `after` on, and what to go on from; None: these were the last."""
        names = await self.broker.schedules.names(tenant, after, limit + 1)
        found = await self.broker.schedules.read_many(tenant, names[:limit])
        return [record for record in found if record], names[limit - 1] if len(names) > limit else None

    async def pause(self, tenant: str, name: str) -> ScheduleRecord:
        """Let a schedule fire nothing until it is resumed; return it.

        Raises:
            ScheduleNotFound: there is none.
        """
        await self.broker.schedules.pause(tenant, name)
        return await self.find(tenant, name)

    async def resume(self, tenant: str, name: str) -> ScheduleRecord:
        """Let a paused schedule go on, with its first due time from now on; return it.

        Raises:
            ScheduleNotFound: there is none.
        """
        for _ in range(_MOST_TRIES):
            schedule = await self.find(tenant, name)
            if not schedule.is_paused:
                return schedule
            after_ms = max(await self.clock.now_ms(), schedule.last_due_ms or 0)
            next_ms = Timetable(schedule.spec, schedule.since_ms).next_after(after_ms)
            await self.broker.schedules.resume(schedule, next_ms)
        raise Unavailable(f"schedule {name!r} is changed all the time", name=name)

    async def delete(self, tenant: str, name: str) -> None:
        """Remove a schedule. What it has fired goes on.

        Raises:
            ScheduleNotFound: there is none.
        """
        if not await self.broker.schedules.delete(tenant, name):
            raise ScheduleNotFound(f"there is no schedule {name!r}", name=name)
        log.info("schedule deleted", schedule=name)

    async def trigger(
        self, allowance: Allowance, name: str, trace: Mapping[str, str], request: Request | None
    ) -> TaskRecord:
        """Run what a schedule runs now, once per request, whatever its `overlap` and paused or not.

        It is no due time: the next one stays as it is, and `overlap` does not look at this run.

        Raises:
            ScheduleNotFound: there is none.
            What `Submitter.submit` raises.
        """
        tenant = allowance.caller.tenant
        spec = (await self.find(tenant, name)).spec
        wanted = Submission(
            spec.workflow,
            codec.unpack(spec.input),
            spec.metadata,
            trace=trace,
            request=request,
            fired=Fired(name),
            allowance=allowance,
        )
        return await self.submitter.submit(tenant, wanted)
