"""The unit costs that the model calculates with, as measured; and the file that keeps them."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FILE = Path(__file__).with_name("costs.json")


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds of one core unless the name says otherwise, with events of 200 bytes.

    Attributes:
        control_plane_task: submit, answer with the result, and the task's share of listing and waiting.
        control_plane_entry: taking an entry of a stream that is tailed here, whoever reads it.
        control_plane_delivery: sending that to one reader, as SSE.
        control_plane_connection: letting a reader in, up to the first event.
        control_plane_reader_second: keeping one quiet reader for a second.
        control_plane_reader_bytes: memory of one quiet reader, and of the stream that it alone tails.
        worker_task: claim, attempt and end of a task that does nothing.
        worker_entry: writing an event that travels alone, the workflow's own `asyncio.sleep` included.
        worker_event: writing one of many that travel together.
        worker_task_bytes: memory of a running task.
        queue_task: the queue server's part in a task.
        queue_process_second: the queue server's part in an idle worker or control plane.
        queue_connections: how many connections to it a worker or control plane has, on average.
        shard_task: a shard's part in a task.
        shard_entry: appending an entry that nobody hears of.
        shard_hearing: telling one control plane of it.
        shard_event: appending one event of many in an entry.
        shard_connections: as `queue_connections`.
        shard_task_bytes: memory of a task's record and its stream, without what the workflow wrote.
        shard_entry_bytes: memory of an event that is an entry of its own.
    """

    control_plane_task: float
    control_plane_entry: float
    control_plane_delivery: float
    control_plane_connection: float
    control_plane_reader_second: float
    control_plane_reader_bytes: float
    worker_task: float
    worker_entry: float
    worker_event: float
    worker_task_bytes: float
    queue_task: float
    queue_process_second: float
    queue_connections: float
    shard_task: float
    shard_entry: float
    shard_hearing: float
    shard_event: float
    shard_connections: float
    shard_task_bytes: float
    shard_entry_bytes: float


def load(file: Path = FILE) -> Costs:
    """Return the costs that were measured last.

    Raises:
        ValueError: the file lacks one, or has one that is no cost.
    """
    found = json.loads(file.read_text())["costs"]
    names = {field.name for field in fields(Costs)}
    if found.keys() != names or not all(value >= 0 for value in found.values()):
        raise ValueError(f"{file} does not hold the costs {sorted(names)}: measure them again")
    return Costs(**found)


def save(costs: Costs, machine: dict[str, object], file: Path = FILE) -> None:
    """Keep the costs, with the machine that they are of."""
    rounded = {name: round(value, 2) for name, value in asdict(costs).items()}
    file.write_text(json.dumps({"machine": machine, "costs": rounded}, indent=2) + "\n")
