"""The credentials that were shown to be good a moment ago, so that the next request with one need not prove it anew.

To take an API key apart, and to compare its secret, costs a tenth of a short request, and to check a stream token's
signature a quarter. All are forgotten in each round of the doorkeeper, when it has looked up what became of keys and
tokens, and with the revocation of a token here: each then proves itself by what is known now. What is kept is the
credential itself: a digest of it costs more than the rest of the look together. It is gone with the next round,
and after `TRUSTED` where that takes longer.
"""

from dataclasses import dataclass, field

from tailplane.control_plane.access import Caller

# Past it all are forgotten, and come back with their next request.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Proof:
    """That a credential was good.

    Attributes:
        until: when it ends by itself, in seconds since the epoch.
    """

    caller: Caller
    until: float


@dataclass(slots=True)
class Proven:
    """Knows credentials that have proved themselves since `forget` was called last."""

    _proofs: dict[bytes, Proof] = field(default_factory=dict, repr=False)

    def find(self, credential: bytes, now: float) -> Caller | None:
        """Return whose a credential is that is good still; None: it must prove itself."""
        proof = self._proofs.get(credential)
        return None if proof is None or now >= proof.until else proof.caller

    def note(self, credential: bytes, proof: Proof) -> None:
        """Note that a credential has proved itself."""
        if len(self._proofs) >= MOST:
            self._proofs.clear()
        self._proofs[credential] = proof

    def forget(self) -> None:
        """Let all prove themselves anew."""
        self._proofs.clear()
