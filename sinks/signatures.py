"""Signatures of Standard Webhooks: `v1`, HMAC-SHA256 under a shared secret.

Source: Standard Webhooks 1.0.0, spec/standard-webhooks.md, "Signature scheme" and "Webhook headers", of
standard-webhooks/standard-webhooks at b2fa7b8 (2026-08-17).
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from todoke.schemas.errors import Misconfigured

from .secrets import Secret

PREFIX = "whsec_"


def key_of(secret: Secret, where: str) -> bytes:
    """The bytes behind `whsec_…`, padded or not. Raises `Misconfigured` naming `where` when they are not 24 to 64."""
    text = secret.reveal().removeprefix(PREFIX)
    try:
        key = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise Misconfigured(f"{where}: expected {PREFIX} and Base64 of 24 to 64 bytes; write a new random one")
    return key


def sign(key: bytes, identity: str, stamp: str, body: bytes) -> str:
    """`v1,` and Base64 of the HMAC over `id.timestamp.body`."""
    return "v1," + b64encode(hmac.digest(key, f"{identity}.{stamp}.".encode() + body, "sha256")).decode()


def headers(keys: Sequence[bytes], identity: str, at: int, body: bytes) -> dict[str, str]:
    """The three headers of one message, signed with every key: two of them while a secret is being replaced.

    `identity` is the same each time that a message is sent; `at` (ms) is the time of this attempt.
    """
    stamp = str(at // 1000)
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(sign(key, identity, stamp, body) for key in keys),
    }


def verified(keys: Sequence[bytes], identity: str, given: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures in the headers `given` is ours, over this `body`, for the message `identity`.

    The time is covered by the signature but not judged: whoever asks knows which message it waits for.
    """
    if given.get("webhook-id") != identity:
        return False
    stamp = given.get("webhook-timestamp", "")
    theirs = given.get("webhook-signature", "").split(" ")
    ours = [sign(key, identity, stamp, body) for key in keys]
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in ours for other in theirs)
