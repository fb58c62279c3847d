"""Credentials: whatever comes is one or is refused in the one way, and none shows its secret."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import codec
from tailplane.protocol.credentials import ApiKey, SignedToken, StreamToken, _encoded
from tailplane.protocol.errors import Unauthenticated
from tailplane.protocol.ids import new_key_id, new_session_id, new_task_id
from tailplane.protocol.scopes import SCOPE_OF, Action, Scope, spread

SECRET = bytes(range(32))
KEYS = st.builds(lambda: ApiKey.draw(new_key_id()))
TOKENS = st.builds(
    StreamToken,
    token_id=st.text(string.ascii_letters + string.digits, min_size=1, max_size=40),
    tenant=st.from_regex(r"[a-z0-9]{1,40}", fullmatch=True),
    key_id=st.sampled_from([None, new_key_id()]),
    subject=st.sampled_from([new_task_id(), new_session_id()]),
    actions=st.frozensets(st.sampled_from(Action)),
    expires_ms=st.integers(0, 2**53),
)


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


@given(TOKENS)
def test_a_token_reads_as_it_was_signed(token: StreamToken) -> None:
    signed = SignedToken.parse(token.sign(SECRET))
    assert signed.claimed == token
    assert signed.is_signed_with(SECRET)
    assert not signed.is_signed_with(SECRET[::-1])
    assert not signed.is_signed_with(b"")


@given(TOKENS, st.data())
def test_a_token_with_any_flipped_bit_is_refused(token: StreamToken, data: st.DataObject) -> None:
    text = token.sign(SECRET)
    at = data.draw(st.integers(0, len(text) - 1))
    other = text[:at] + chr(ord(text[at]) ^ (1 << data.draw(st.integers(0, 6)))) + text[at + 1 :]
    try:
        signed = SignedToken.parse(other)
    except Unauthenticated:
        return
    assert not signed.is_signed_with(SECRET)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=30) | st.binary(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(VALUES, min_size=7, max_size=7) | VALUES | st.tuples(st.just(1), *[VALUES] * 6).map(list))
def test_claims_of_any_form_are_a_token_or_none(claims: object) -> None:
    _refuse_or_read(codec.pack(claims))


@given(st.binary(min_size=1, max_size=400))
def test_claims_of_any_bytes_are_a_token_or_none(packed: bytes) -> None:
    _refuse_or_read(packed)


@pytest.mark.parametrize("packed", [b"\x91" * 500, b"\xdd\xff\xff\xff\xff", b"\xc7\x0c\xff" + b"\xff" * 12, b"\xc1"])
def test_claims_that_are_a_bomb_are_none(packed: bytes) -> None:
    with pytest.raises(Unauthenticated):
        SignedToken.parse(f"tps_{_encoded(packed)}.{'A' * 43}")


def _refuse_or_read(packed: bytes) -> None:
    try:
        SignedToken.parse(f"tps_{_encoded(packed)}.{'A' * 43}")
    except Unauthenticated:
        return


def test_no_credential_shows_its_secret() -> None:
    key = ApiKey.draw(new_key_id())
    for shown in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert key.secret not in shown
        assert key.key_id in shown
    token = StreamToken("id", "acme", None, new_task_id(), frozenset({Action.READ}), 1)
    signed = SignedToken.parse(token.sign(SECRET))
    assert repr(signed.mac) not in f"{signed!r} {signed}"


def test_a_token_of_another_version_is_none() -> None:
    token = StreamToken("id", "acme", None, new_task_id(), frozenset({Action.READ}), 1)
    claims = codec.unpack(SignedToken.parse(token.sign(SECRET)).packed)
    for at, value in ((0, 2), (1, 5), (5, "read"), (5, ["write"]), (6, True), (6, 1.5), (2, "No tenant")):
        other = [*claims[:at], value, *claims[at + 1 :]]
        with pytest.raises(Unauthenticated):
            SignedToken.parse(f"tps_{_encoded(codec.pack(other))}.{'A' * 43}")
    assert replace(token, expires_ms=2).sign(SECRET) != token.sign(SECRET)


def test_an_admin_may_do_everything_and_others_what_they_were_given() -> None:
    assert spread({Scope.ADMIN}) == set(Scope)
    assert spread({Scope.READ}) == {Scope.READ}
    assert set(SCOPE_OF) == set(Action)
