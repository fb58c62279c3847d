"""A credential that has proved itself is good until it ends, or something else is known of its key."""

import math

import pytest

from tailplane.broker import Broker
from tailplane.broker.api_keys import KeyRecord, NewKey
from tailplane.control_plane import proven as proven_module
from tailplane.control_plane.access import Caller
from tailplane.control_plane.known_keys import TRUSTED, KnownKeys
from tailplane.control_plane.proven import Proof, Proven
from tailplane.protocol.ids import new_key_id
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
    return Proof(Caller(record.tenant, record.key_id, record.scopes), until)


async def test_a_credential_is_known_again_and_no_other_is(known: KnownKeys, record: KeyRecord) -> None:
    proven, shown = Proven(known), proof(record)
    proven.note(b"tp_a", shown, 0.0)
    assert proven.find(b"tp_a", 0.0) is shown.caller
    assert proven.find(b"tp_b", 0.0) is None
    assert "tp_a" not in repr(proven)


async def test_it_ends_when_it_ends(known: KnownKeys, record: KeyRecord) -> None:
    proven = Proven(known)
    proven.note(b"tp_a", proof(record, until=5.0), 0.0)
    assert proven.find(b"tp_a", 4.9) is not None
    assert proven.find(b"tp_a", 5.0) is None


async def test_each_look_at_keys_lets_it_prove_itself_anew(known: KnownKeys, record: KeyRecord, broker: Broker) -> None:
    proven = Proven(known)
    for look in (known.refresh, lambda: known.look(record.key_id)):
        proven.note(b"tp_a", proof(record), 0.0)
        assert proven.find(b"tp_a", 0.0) is not None
        await look()
        assert proven.find(b"tp_a", 0.0) is None
    proven.note(b"tp_a", proof(record), 0.0)
    await broker.redis.delete(broker.keys.api_key(record.key_id))
    assert await known.look(record.key_id) is None
    assert proven.find(b"tp_a", 0.0) is None


async def test_ids_that_nobody_has_let_nobody_prove_itself_anew(known: KnownKeys, record: KeyRecord) -> None:
    proven = Proven(known)
    proven.note(b"tp_a", proof(record), 0.0)
    assert await known.find(new_key_id()) is None
    assert proven.find(b"tp_a", 0.0) is not None


async def test_it_is_not_believed_for_longer_than_its_key(known: KnownKeys, record: KeyRecord) -> None:
    proven = Proven(known)
    proven.note(b"tp_a", proof(record), 100.0)
    assert proven.find(b"tp_a", 100.0 + TRUSTED - 0.001) is not None
    assert proven.find(b"tp_a", 100.0 + TRUSTED) is None


async def test_there_is_a_bound(known: KnownKeys, record: KeyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_module, "MOST", 3)
    proven = Proven(known)
    for number in range(10):
        proven.note(b"tp_%d" % number, proof(record), 0.0)
        assert len(proven._proofs) <= 3
        assert proven.find(b"tp_%d" % number, 0.0) is not None
