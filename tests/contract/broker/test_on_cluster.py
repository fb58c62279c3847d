"""What holds of tasks and streams on one server holds on a cluster: the same tests, over the other store."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio.cluster import RedisCluster as ClusterClient

from tailplane.broker import Broker
from tests.redis_cluster import RedisCluster

from .conftest import Deployment
from .test_append import *  # noqa: F403
from .test_begin import *  # noqa: F403
from .test_create import *  # noqa: F403
from .test_end import *  # noqa: F403
from .test_event_log import *  # noqa: F403
from .test_finish import *  # noqa: F403
from .test_inbox import *  # noqa: F403
from .test_memory import *  # noqa: F403
from .test_schedules import *  # noqa: F403

# Those that listen by a client of one server, lose its replies, or do to it what would have to be done to all three.
for _name in (
    "test_a_lost_reply_and_a_second_sending_give_one_entry",
    "test_readers_are_told_a_small_entry_itself",
    "test_readers_are_told_that_there_is_a_large_entry",
    "test_a_server_that_takes_no_writes_now_is_no_refusal",
    "test_readers_hear_nothing_of_an_entry_that_is_refused",
    "test_a_full_server_is_no_refusal",
    "test_readers_are_told_of_a_new_attempt",
    "test_the_frame_of_a_new_attempt_bears_numbers_of_any_size",
    "test_a_task_whose_start_deadline_has_passed_is_too_late",
    "test_sent_again_after_a_lost_reply_it_changes_nothing",
    "test_looking_for_the_newest_events_reads_one_entry",
    "test_readers_are_told_of_the_end",
    "test_a_lost_reply_and_a_second_delivery_are_one_message",
    "test_a_lost_reply_and_a_second_sending_write_fields_once",
):
    del globals()[_name]


@pytest.fixture
def broker(sharded_broker: Broker) -> Broker:
    return sharded_broker


@pytest.fixture
def deployment(sharded_broker: Broker) -> Deployment:
    return Deployment(sharded_broker)


@pytest.fixture
async def redis(redis_cluster: RedisCluster) -> AsyncIterator[ClusterClient]:
    """What tests look into the store with: on the other side of the code under test."""
    async with ClusterClient(host="127.0.0.1", port=redis_cluster.nodes[0].port) as client:
        yield client
