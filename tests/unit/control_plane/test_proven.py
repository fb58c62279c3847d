"""A credential that has proved itself is good until it ends, or something else is known of its key."""

import math

import pytest

from tailplane.broker import Broker
from tailplane.broker.api_keys import KeyRecord, NewKey
from tailplane.control_plane import proven as proven_module
from tailplane.control_plane.access import Caller
from tailplane.control_plane.known_keys import TRUSTED, KnownKeys
from tailplane.control_plane.proven import Proof, Proven
from tailplane.protocol.scopes import Scope

NEW = NewKey(tenant="default", name="test", scopes=frozenset({Scope.READ}))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(broker: Broker, clock: Clock) -> KnownKeys:
    return KnownKeys(broker.api_keys, clock)


@pytest.fixture
async def record(broker: Broker, known: KnownKeys) -> KeyRecord:
    made, _ = await broker.api_keys.create(NEW)
    found = await known.find(made.key_id)
    assert found is not None
    return found


def proof(record: KeyRecord, until: float = math.inf) -> Proof:
    return Proof(Caller(record.tenant, record.key_id, record.scopes), record, until)


async def test_a_credential_is_known_again_and_no_other_is(known: KnownKeys, record: KeyRecord) -> None:
    proven, shown = Proven(known), proof(record)
    proven.note(b"tp_a", shown)
    assert proven.find(b"tp_a", 0.0) is shown.caller
    assert proven.find(b"tp_b", 0.0) is None
    assert "tp_a" not in repr(vars(proven))


async def test_it_ends_when_it_ends(known: KnownKeys, record: KeyRecord) -> None:
    proven = Proven(known)
    proven.note(b"tp_a", proof(record, until=50.0))
    assert proven.find(b"tp_a", 49.9) is not None
    assert proven.find(b"tp_a", 50.0) is None
    assert proven.find(b"tp_a", 49.9) is None


async def test_each_look_at_its_key_lets_it_prove_itself_anew(known: KnownKeys, record: KeyRecord) -> None:
    proven = Proven(known)
    proven.note(b"tp_a", proof(record))
    await known.refresh()
    assert proven.find(b"tp_a", 0.0) is None


async def test_it_is_not_believed_for_longer_than_its_key(known: KnownKeys, record: KeyRecord, clock: Clock) -> None:
    proven = Proven(known)
    proven.note(b"tp_a", proof(record))
    clock.now += TRUSTED
    assert proven.find(b"tp_a", 0.0) is not None
    clock.now += 0.001
    assert proven.find(b"tp_a", 0.0) is None


async def test_there_is_a_bound(known: KnownKeys, record: KeyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_module, "MOST", 3)
    proven = Proven(known)
    for number in range(10):
        proven.note(b"tp_%d" % number, proof(record))
        assert len(proven._proofs) <= 3
        assert proven.find(b"tp_%d" % number, 0.0) is not None
