"""What is remembered of a run of a LangGraph graph: its checkpoints, as the library's own in-memory saver holds them.

The graph saves a checkpoint at the end of each step of all its nodes. The saver keeps what is new in it until `taken`,
encoded as it is; that is one entry of the task's memory, from which another attempt's saver is filled.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from tailplane.protocol import codec

# Keys of an entry: checkpoints, values of channels, what single nodes have written, number of the last message.
_CHECKPOINTS, _VALUES, _WRITES, _MESSAGE = "c", "v", "w", "m"


class TaskSaver(InMemorySaver):
    """The saver of one attempt, which begins with what earlier ones have saved.

    Attributes:
        message: the number of the last message that a run was resumed with; 0: none was.
        has_steps: whether what is new tells of more than the input.
    """

    def __init__(self, entries: Iterable[bytes]) -> None:
        # Never pickle, which is its fallback for what msgpack lacks.
        super().__init__(serde=JsonPlusSerializer(pickle_fallback=False))
        self.message = 0
        self.has_steps = False
        self._new: dict[str, list[Any]] = {_CHECKPOINTS: [], _VALUES: [], _WRITES: []}
        for raw in entries:
            entry = codec.unpack(raw)
            self.message = entry[_MESSAGE]
            for thread, namespace, checkpoint_id, checkpoint, metadata, parent in entry[_CHECKPOINTS]:
                self.storage[thread][namespace][checkpoint_id] = (tuple(checkpoint), tuple(metadata), parent)
            for thread, namespace, channel, version, value in entry[_VALUES]:
                self.blobs[thread, namespace, channel, version] = tuple(value)
            for thread, namespace, checkpoint_id, task, index, channel, value, path in entry[_WRITES]:
                self.writes[thread, namespace, checkpoint_id][task, index] = (task, channel, tuple(value), path)

    @property
    def has_news(self) -> bool:
        """Whether there is anything new."""
        return any(self._new.values())

    def taken(self, message: int) -> bytes:
        """Return what is new since the last call, as an entry."""
        entry = self._new | {_MESSAGE: message}
        self._new, self.has_steps = {_CHECKPOINTS: [], _VALUES: [], _WRITES: []}, False
        self.message = message
        return codec.pack(entry)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint."""
        put = super().put(config, checkpoint, metadata, new_versions)
        thread, namespace = put["configurable"]["thread_id"], put["configurable"]["checkpoint_ns"]
        saved = self.storage[thread][namespace][checkpoint["id"]]
        self._new[_CHECKPOINTS].append([thread, namespace, checkpoint["id"], *saved])
        for channel, version in new_versions.items():
            value = self.blobs[thread, namespace, channel, version]
            self._new[_VALUES].append([thread, namespace, channel, version, value])
        self.has_steps = self.has_steps or metadata.get("source") != "input"
        return put

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a node has written, or why it has stopped."""
        super().put_writes(config, writes, task_id, task_path)
        place = config["configurable"]
        key = place["thread_id"], place.get("checkpoint_ns", ""), place["checkpoint_id"]
        for (task, index), (_, channel, value, path) in self.writes[key].items():
            if task == task_id:
                self._new[_WRITES].append([*key, task, index, channel, value, path])
