"""What the errors mean by which servers refuse for want of a right: Redis 7.0's words, and those of later ones."""

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from tailplane.broker.connection import reply_error, store_errors
from tailplane.protocol.errors import BY_CODE, StoreForbidden, StoreUnavailable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NOPERM this user has no permissions to run the 'config|get' command", "to run CONFIG GET"),
        ("NOPERM User worker has no permissions to run the 'xadd' command", "to run XADD"),
        ("NOPERM this user has no permissions to access one of the keys used as arguments", "to a key"),
        ("NOPERM No permissions to access a key", "to a key"),
        ("NOPERM No permissions to access a channel", "to a channel"),
        ("ERR ACL failure in script: User worker has no permissions to run the 'hset' command script: 1",
         "to run HSET"),
        ("ERR ACL failure in script: No permissions to access a key script: 1, on @user_script:1.", "to a key"),
        ("ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
         "to a key"),
        ("ERR The user executing the script can't publish to the channel mentioned in the command", "to a channel"),
        ("ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.",
         "to a command that one of its scripts runs"),
    ],
)  # fmt: skip
def test_a_refusal_for_want_of_a_right_says_which(text: str, said: str) -> None:
    error = reply_error(text)
    assert isinstance(error, StoreForbidden)
    assert str(error).startswith(f"Redis gives the program's user no right {said}")
    assert "user_script" not in str(error)


def test_redis_pys_own_refusal_is_the_same() -> None:
    with pytest.raises(StoreForbidden, match="to run PING"), store_errors():
        raise NoPermissionError("User worker has no permissions to run the 'ping' command")


def test_other_refusals_are_not_taken_for_it() -> None:
    assert type(reply_error("WRONGTYPE Operation against a key")) is ResponseError
    assert type(reply_error("OOM command not allowed")) is StoreUnavailable


def test_callers_may_try_again_later() -> None:
    assert BY_CODE["store_forbidden"] is StoreForbidden
    assert StoreForbidden("x").problem()["status"] == 503
