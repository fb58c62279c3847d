"""A credential that has proved itself is good until it ends, or all must prove themselves anew."""

import math

import pytest

from tailplane.control_plane import proven as proven_module
from tailplane.control_plane.access import Caller
from tailplane.control_plane.proven import Proof, Proven
from tailplane.protocol.ids import new_key_id
from tailplane.protocol.scopes import Scope


def proof(until: float = math.inf) -> Proof:
    return Proof(Caller("default", new_key_id(), frozenset({Scope.READ})), until)


def test_a_credential_is_known_again_and_no_other_is() -> None:
    proven, shown = Proven(), proof()
    proven.note(b"tp_a", shown)
    assert proven.find(b"tp_a", 0.0) is shown.caller
    assert proven.find(b"tp_b", 0.0) is None
    assert "tp_a" not in repr(proven)
    proven.forget()
    assert proven.find(b"tp_a", 0.0) is None


def test_it_ends_when_it_ends() -> None:
    proven = Proven()
    proven.note(b"tp_a", proof(until=5.0))
    assert proven.find(b"tp_a", 4.9) is not None
    assert proven.find(b"tp_a", 5.0) is None


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven_module, "MOST", 3)
    proven = Proven()
    for number in range(10):
        proven.note(b"tp_%d" % number, proof())
        assert len(proven._proofs) <= 3
        assert proven.find(b"tp_%d" % number, 0.0) is not None
