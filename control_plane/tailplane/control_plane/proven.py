"""The credentials that were shown to be good a moment ago, so that the next request with one need not prove it anew.

To take an API key apart, and to compare its secret, costs a tenth of a short request, and to check a stream token's
signature a quarter. What is kept is the digest of the credential, never itself, and good for as long as what is known
of its key is the same: known keys are looked up again each second, and with them each credential proves itself anew.
"""

import hashlib
from dataclasses import dataclass

from tailplane.broker.api_keys import KeyRecord
from tailplane.control_plane.access import Caller
from tailplane.control_plane.known_keys import KnownKeys

# Past it all are forgotten, and come back with their next request.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Proof:
    """That a credential was good.

    Attributes:
        record: what was known of its key.
        until: when it ends by itself, in seconds since the epoch.
    """

    caller: Caller
    record: KeyRecord
    until: float


class Proven:
    """Knows credentials of keys that are known."""

    def __init__(self, known: KnownKeys) -> None:
        self._known = known
        self._proofs: dict[bytes, Proof] = {}

    def find(self, credential: bytes, now: float) -> Caller | None:
        """Return whose a credential is that is good still; None: it must prove itself."""
        digest = _digest(credential)
        proof = self._proofs.get(digest)
        if proof is None:
            return None
        if now < proof.until and self._known.is_latest(proof.record):
            return proof.caller
        del self._proofs[digest]
        return None

    def note(self, credential: bytes, proof: Proof) -> None:
        """Note that a credential has proved itself."""
        if len(self._proofs) >= MOST:
            self._proofs.clear()
        self._proofs[_digest(credential)] = proof


def _digest(credential: bytes) -> bytes:
    # As fast as there is one: nobody finds another text with the digest of a credential that he does not have.
    return hashlib.blake2b(credential, digest_size=16).digest()
