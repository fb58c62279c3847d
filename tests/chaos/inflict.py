"""Carries a schedule of faults out against a fleet, and notes when each began and ended."""

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import assert_never

from tests.chaos.faults import Cut, Fault, Kind, Restart
from tests.chaos.fleet import Fleet, Member
from tests.chaos.history import Inflicted
from tests.chaos.orders import TENANTS
from tests.proxy import Proxy


async def inflict(fleet: Fleet, faults: Sequence[Fault], done: list[Inflicted]) -> None:
    """Carry out all faults at their times; return when the fleet is whole again. `done` takes each when it is over."""
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at - asyncio.get_running_loop().time()))
            group.create_task(_carry_out(fleet, fault, done))


async def _carry_out(fleet: Fleet, fault: Fault, done: list[Inflicted]) -> None:
    match fault.kind:
        case Kind.WORKER_KILLED | Kind.WORKER_STOPPED | Kind.WORKER_DRAINED:
            await _take_out(fleet.workers[fault.target], fault, done)
        case Kind.CONTROL_PLANE_KILLED | Kind.CONTROL_PLANE_DRAINED:
            await _take_out(fleet.control_planes[fault.target], fault, done)
        case Kind.WORKER_CUT:
            await _break(fleet.workers[fault.target].link, fault, done)
        case Kind.CONTROL_PLANE_CUT:
            await _break(fleet.control_planes[fault.target].link, fault, done)
        case Kind.CLIENTS_CUT:
            await _break(fleet.front, fault, done)
        case Kind.STORE_RESTARTED:
            await _restart_store(fleet, fault, done)
        case Kind.SHARD_KILLED | Kind.SLOTS_MOVED:
            await _disturb_shards(fleet, fault, done)
        case Kind.KEY_ROTATED | Kind.KEY_REPLACED:
            await _change_key(fleet, fault, done)
        case _:
            assert_never(fault.kind)


async def _take_out(member: Member, fault: Fault, done: list[Inflicted]) -> None:
    async with member.lock:
        began, pid = time.time(), member.pid
        match fault.kind:
            case Kind.WORKER_STOPPED:
                member.signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(fault.lasts)
                finally:
                    member.signal(signal.SIGCONT)
            case Kind.WORKER_DRAINED | Kind.CONTROL_PLANE_DRAINED:
                await member.drain()
                await asyncio.sleep(fault.lasts)
                await member.start()
            case _:
                await member.kill()
                await asyncio.sleep(fault.lasts)
                await member.start()
        done.append(Inflicted(fault, began, time.time(), pid))


async def _break(link: Proxy, fault: Fault, done: list[Inflicted]) -> None:
    began = time.time()
    try:
        match Cut(fault.how):
            case Cut.RESET:
                link.cut()
            case Cut.REFUSED:
                link.refuses = True
                link.cut()
            case Cut.SILENT:
                link.hold()
        await asyncio.sleep(fault.lasts)
    finally:
        link.refuses = False
        link.release()
    done.append(Inflicted(fault, began, time.time()))


async def _restart_store(fleet: Fleet, fault: Fault, done: list[Inflicted]) -> None:
    async with fleet.server_lock:
        began = time.time()
        await asyncio.to_thread(fleet.server.kill if fault.how == Restart.KILLED else fleet.server.stop)
        await asyncio.sleep(fault.lasts)
        await asyncio.to_thread(fleet.server.start)
        done.append(Inflicted(fault, began, time.time()))


async def _change_key(fleet: Fleet, fault: Fault, done: list[Inflicted]) -> None:
    assert fleet.doors is not None
    began = time.time()
    if fault.kind is Kind.KEY_ROTATED:
        await fleet.doors.rotate(TENANTS[fault.target], fault.lasts)
    else:
        await fleet.doors.replace(TENANTS[fault.target])
    done.append(Inflicted(fault, began, time.time()))


async def _disturb_shards(fleet: Fleet, fault: Fault, done: list[Inflicted]) -> None:
    assert fleet.shards is not None
    if fleet.shards_lock.locked():
        # On a busy machine a failover takes longer than the schedule thinks: this one would come when all is over.
        return
    async with fleet.shards_lock:
        began, primary = time.time(), fleet.shards.primaries()[fault.target]
        if fault.kind is Kind.SHARD_KILLED:
            await asyncio.to_thread(fleet.shards.fail_over, primary)
            await asyncio.sleep(fault.lasts)
            await asyncio.to_thread(fleet.shards.give_back, primary)
        else:
            await asyncio.to_thread(fleet.shards.move_some, primary)
        done.append(Inflicted(fault, began, time.time()))
