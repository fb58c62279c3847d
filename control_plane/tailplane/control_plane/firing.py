"""What becomes of a schedule whose next due time has come: which one is fired, and which are passed over. No I/O."""

from tailplane.broker.schedules import Move, ScheduleRecord
from tailplane.control_plane.timetable import Timetable


def next_move(schedule: ScheduleRecord, next_ms: int, now_ms: int) -> Move:
    """Return the step of a schedule whose next due time, `next_ms`, has come.

    Due times that are later than the schedule's `misfire_grace_ms` are passed over. Of the others the latest one is
    fired, or, with `catch_up` "all", the first one.
    """
    spec, timetable = schedule.spec, Timetable(schedule.spec, schedule.since_ms)
    # Those before this are too late; they are counted as one, since an outage may have lasted.
    horizon_ms = now_ms - spec.misfire_grace_ms
    missed = int(next_ms < horizon_ms)
    candidate = timetable.next_after(horizon_ms - 1) if missed else next_ms
    if candidate is None or candidate > now_ms:
        return Move(next_ms, None, candidate, missed)
    due_ms, later = candidate, timetable.after(candidate)
    following = next(later, None)
    while spec.catch_up == "latest" and following is not None and following <= now_ms:
        missed += 1
        due_ms, following = following, next(later, None)
    return Move(next_ms, due_ms, following, missed)
