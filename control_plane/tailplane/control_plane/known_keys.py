"""The API keys that this control plane has seen lately, so that a request need not ask Redis who makes it."""

import time
from collections.abc import Callable, Sequence

from tailplane.broker.api_keys import ApiKeys, KeyRecord
from tailplane.control_plane.known import Known
from tailplane.protocol.ids import KeyId


class KnownKeys(Known[KeyId, KeyRecord]):
    """Knows keys. The doorkeeper looks after them."""

    def __init__(self, keys: ApiKeys, clock: Callable[[], float] = time.monotonic) -> None:
        async def read(key_ids: Sequence[KeyId]) -> dict[KeyId, KeyRecord]:
            return {record.key_id: record for record in await keys.read_many(key_ids) if record is not None}

        super().__init__(read, clock)
