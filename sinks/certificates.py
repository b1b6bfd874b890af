"""A certificate that was pinned beforehand, and signatures that its key has made.

Source: OpenDSR 2.0, sections 4 and 8.8 (a digital signature by the processor's certificate); mParticle, "Validating a
Callback Request" (RSA with SHA-256 over the raw body). Which RSA padding is nowhere said: PKCS #1 v1.5, which "SHA256withRSA" means.
"""

from base64 import b64decode
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from todoke.schemas.errors import Misconfigured


class Pinned:
    """One certificate, taken as it is: somebody has compared it, so no chain is followed and nothing is fetched."""

    def __init__(self, pem: str, where: str) -> None:
        """Raises `Misconfigured` naming `where` when `pem` is no certificate with an RSA key."""
        try:
            found = load_pem_x509_certificate(pem.encode())
            key = found.public_key()
        except (ValueError, TypeError):
            raise Misconfigured(
                f"{where}: not a certificate in PEM; fetch the processor's and give that file"
            ) from None
        if not isinstance(key, RSAPublicKey):
            raise Misconfigured(f"{where}: its key is not an RSA key; fetch the processor's certificate again")
        self._key = key
        self._from, self._until = found.not_valid_before_utc, found.not_valid_after_utc

    def valid(self, at: int) -> bool:
        """Whether the certificate is good at `at` (ms)."""
        return self._from <= datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at) <= self._until

    def signed(self, signature: str, body: bytes) -> bool:
        """Whether `signature`, in Base64 that may be folded, is this key's over the raw `body`."""
        try:
            self._key.verify(b64decode("".join(signature.split()), validate=True), body, PKCS1v15(), hashes.SHA256())
        except (ValueError, InvalidSignature):
            return False
        return True
