"""Credentials: whatever comes is one or is refused in the one way, and none shows its secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol.credentials import ApiKey, SignedToken, StreamToken
from tailplane.protocol.errors import Unauthenticated
from tailplane.protocol.ids import new_key_id, new_task_id
from tailplane.protocol.scopes import SCOPE_OF, Action, Scope, spread

SECRET = bytes(range(32))
KEYS = st.builds(lambda: ApiKey.draw(new_key_id()))


@given(KEYS)
def test_a_key_reads_as_it_was_written(key: ApiKey) -> None:
    assert ApiKey.parse(key.text) == key
    assert len(key.text) == 73


@given(KEYS, st.data())
def test_a_key_with_any_other_character_is_none_or_another_one(key: ApiKey, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(key.text) - 1))
    bit = 1 << data.draw(st.integers(0, 6))
    other = key.text[:at] + chr(ord(key.text[at]) ^ bit) + key.text[at + 1 :]
    try:
        found = ApiKey.parse(other)
    except Unauthenticated:
        return
    assert (found.key_id, found.digest) != (key.key_id, key.digest)


@given(st.text() | st.from_regex(r"tps?_[A-Za-z0-9_.-]*", fullmatch=True))
def test_what_is_no_credential_is_refused_in_the_one_way(text: str) -> None:
    for parse in (ApiKey.parse, SignedToken.parse):
        with pytest.raises(Unauthenticated) as caught:
            parse(text)
        assert len(text) < 12 or text not in str(caught.value)


def test_no_credential_shows_its_secret() -> None:
    key = ApiKey.draw(new_key_id())
    for shown in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert key.secret not in shown
        assert key.key_id in shown
    token = StreamToken("id", "acme", None, new_task_id(), frozenset({Action.READ}), 1)
    signed = SignedToken.parse(token.sign(SECRET))
    assert repr(signed.mac) not in f"{signed!r} {signed}"


def test_an_admin_may_do_everything_and_others_what_they_were_given() -> None:
    assert spread({Scope.ADMIN}) == set(Scope)
    assert spread({Scope.READ}) == {Scope.READ}
    assert set(SCOPE_OF) == set(Action)
