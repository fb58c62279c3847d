"""The credentials that were shown to be good a moment ago, so that the next request with one need not prove it anew.

To take an API key apart, and to compare its secret, costs a tenth of a short request, and to check a stream token's
signature a quarter. A proof is good for as long as nothing new is known of any key: known keys are looked up again each
second, and with them each credential proves itself anew. What is kept is the credential itself: a digest of it costs
more than the rest of the look together. It is gone when another one proves itself a second later.
"""

from dataclasses import dataclass, field

from tailplane.control_plane.access import Caller
from tailplane.control_plane.known_keys import TRUSTED, KnownKeys

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
    """Knows credentials of keys that are known."""

    _known: KnownKeys
    _version: int = 0
    _proofs: dict[bytes, Proof] = field(default_factory=dict, repr=False)

    def find(self, credential: bytes, now: float) -> Caller | None:
        """Return whose a credential is that is good still; None: it must prove itself."""
        proof = self._proofs.get(credential)
        if proof is None or now >= proof.until or self._version != self._known.version:
            return None
        return proof.caller

    def note(self, credential: bytes, proof: Proof, now: float) -> None:
        """Note that a credential has proved itself."""
        if self._version != self._known.version or len(self._proofs) >= MOST:
            self._proofs.clear()
            self._version = self._known.version
        # Not for longer than its key is believed, where Redis does not answer.
        self._proofs[credential] = Proof(proof.caller, min(proof.until, now + TRUSTED))

    def forget(self) -> None:
        """Let all prove themselves anew."""
        self._proofs.clear()
