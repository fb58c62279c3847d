"""Stream tokens as text: no text but the one that was issued passes, and what it says is what was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailplane.protocol import codec
from tailplane.protocol.credentials import SignedToken, StreamToken, _encoded, _mac, new_token_id, signer_of
from tailplane.protocol.errors import InvalidId, Unauthenticated
from tailplane.protocol.ids import KeyId, new_session_id, new_task_id
from tailplane.protocol.scopes import Action

SECRET = b"s" * 32
KEY = KeyId("k_01jd3z0v9m6s8k2x4q7w5e1r0t")
TOKEN = StreamToken(new_token_id(KEY), "acme", KEY, new_task_id(), frozenset({Action.READ, Action.ANSWER}), 90_500)
TEXT = TOKEN.sign(SECRET)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.="

tokens = st.builds(
    StreamToken,
    token_id=st.builds(new_token_id, st.sampled_from([None, KEY])),
    tenant=st.from_regex(r"[a-z0-9]{1,40}", fullmatch=True),
    key_id=st.sampled_from([None, KEY]),
    subject=st.builds(new_task_id) | st.builds(new_session_id),
    actions=st.frozensets(st.sampled_from(Action)),
    expires_ms=st.integers(min_value=0, max_value=2**53),
)


def passes(text: str, secret: bytes = SECRET) -> bool:
    """Whether a text is taken as a token that the secret has signed."""
    try:
        return SignedToken.parse(text).is_signed_with(secret)
    except Unauthenticated:
        return False


@given(tokens, st.binary(min_size=1, max_size=64))
def test_a_token_says_what_was_signed(token: StreamToken, secret: bytes) -> None:
    signed = SignedToken.parse(token.sign(secret))
    assert signed.claimed == token
    assert signed.is_signed_with(secret)


@given(tokens, st.binary(max_size=64), st.binary(max_size=64))
def test_only_its_own_secret_has_signed_it(token: StreamToken, mine: bytes, other: bytes) -> None:
    # HMAC fills short keys up with zeros.
    assert passes(token.sign(mine), other) == (mine.rstrip(b"\0") == other.rstrip(b"\0"))


@given(st.integers(min_value=0, max_value=len(TEXT) - 1), st.sampled_from(ALPHABET))
def test_another_character_anywhere_spoils_it(place: int, character: str) -> None:
    text = TEXT[:place] + character + TEXT[place + 1 :]
    assert passes(text) == (text == TEXT)


@given(st.integers(min_value=0, max_value=len(TEXT)), st.text(ALPHABET, max_size=3), st.integers(0, 3))
def test_so_does_what_is_put_in_or_taken_out(place: int, more: str, fewer: int) -> None:
    text = TEXT[:place] + more + TEXT[place + fewer :]
    assert passes(text) == (text == TEXT)


@given(st.text(max_size=300) | st.text(ALPHABET, max_size=300).map("tps_{}".format))
def test_any_other_text_is_refused_in_good_order(text: str) -> None:
    assert not passes(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=30) | st.binary(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def signed(packed: bytes) -> str:
    """Return a token with these claims, under a MAC that is right."""
    return f"tps_{_encoded(packed)}.{_encoded(_mac(SECRET, packed))}"


@given(
    st.binary(max_size=400)
    | (st.lists(VALUES, min_size=7, max_size=7) | VALUES | st.tuples(st.just(1), *[VALUES] * 6).map(list)).map(
        codec.pack
    )
)
def test_claims_of_any_other_form_are_refused_in_good_order(packed: bytes) -> None:
    assert not passes(signed(packed))


@pytest.mark.parametrize("packed", [b"\x91" * 500, b"\xdd\xff\xff\xff\xff", b"\xc7\x0c\xff" + b"\xff" * 12, b"\xc1"])
def test_claims_that_are_a_bomb_are_none(packed: bytes) -> None:
    assert not passes(signed(packed))


def test_a_token_of_another_version_is_none() -> None:
    claims = codec.unpack(SignedToken.parse(TEXT).packed)
    assert passes(signed(codec.pack(claims)))
    for at, value in ((0, 2), (1, 5), (5, "read"), (5, ["write"]), (6, True), (6, 1.5), (2, "No tenant")):
        other = [*claims[:at], value, *claims[at + 1 :]]
        assert not passes(signed(codec.pack(other)))


@pytest.mark.parametrize("padding", ["=", "==", "\n", " "])
def test_one_token_has_one_text(padding: str) -> None:
    assert not passes(TEXT + padding)
    assert not passes(TEXT.replace(".", padding + "."))


def test_a_token_is_short_enough_for_a_url() -> None:
    longest = StreamToken(new_token_id(KEY), "t" * 40, KEY, new_task_id(), frozenset(Action), 2**53)
    assert len(longest.sign(SECRET)) < 400


@given(st.sampled_from([None, KEY]))
def test_its_id_says_who_signed_it(key: str | None) -> None:
    first, second = new_token_id(KEY if key else None), new_token_id(KEY if key else None)
    assert first != second
    assert signer_of(first) == key


@pytest.mark.parametrize("text", ["", "nobody", "nobody.", f"{KEY}.short", f"{TEXT}", "k_x.0123456789abcdef"])
def test_what_is_no_id_of_a_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidId) as caught:
        signer_of(text)
    assert not text or text not in str(caught.value)
