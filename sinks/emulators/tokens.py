"""The token endpoint that emulators share: RFC 6749's grants and RFC 7523's assertion, checked as their texts demand.

From RFC 6749 (4.4, 5.1, 5.2, 6), RFC 7515 (5.2), RFC 7523 (2.1, 3); Google's server-to-server page for the claims.
"""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .server import Answer, Call, Clock, Fault

FAULTS = ("token-refused", "token-down")
SKEW_S = 60
LONGEST_ASSERTION_S = 3600


class Tokens:
    """Gives tokens that live for `lasts_s`, and tells which are good. One of `secret`, `refresh` or `account` opens it.

    `account` is a service account's key file, from which the public half is taken.
    """

    def __init__(
        self, clock: Clock, *, secret: str = "", refresh: str = "", account: str = "", lasts_s: int = 3600
    ) -> None:
        self._clock = clock
        self._secret = secret
        self._refresh = refresh
        self._issuer, self._key = _public(account)
        self._lasts_s = lasts_s
        self._given: dict[str, int] = {}

    def answer(self, call: Call, fault: Fault | None) -> Answer:
        """What the token endpoint says to `call`."""
        if fault and fault.kind == "token-down":
            return Answer(503, "try later")
        form = {name: values[0] for name, values in parse_qs(call.body.decode("utf-8", "replace")).items()}
        problem = "invalid_grant" if fault and fault.kind == "token-refused" else self._problem(call, form)
        if problem:
            return Answer(401 if problem == "invalid_client" else 400, {"error": problem, "error_description": "no"})
        token = f"emulated.token-{len(self._given) + 1}"
        self._given[token] = self._clock() + self._lasts_s * 1000
        return Answer(200, {"access_token": token, "expires_in": self._lasts_s, "token_type": "Bearer"})

    def good(self, call: Call) -> bool:
        """Whether the call carries a token that lives."""
        kind, _, token = call.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._given.get(token, 0) > self._clock()

    def _problem(self, call: Call, form: Mapping[str, str]) -> str:
        if call.method != "POST" or "urlencoded" not in call.headers.get("content-type", ""):
            return "invalid_request"
        match form.get("grant_type"):
            case "client_credentials" if self._secret:
                return "" if self._client(call, form) else "invalid_client"
            case "refresh_token" if self._refresh:
                if not self._client(call, form):
                    return "invalid_client"
                return "" if _same(form.get("refresh_token", ""), self._refresh) else "invalid_grant"
            case "urn:ietf:params:oauth:grant-type:jwt-bearer" if self._key:
                return "" if self._asserted(call, form.get("assertion", "")) else "invalid_grant"
        return "unsupported_grant_type"

    def _client(self, call: Call, form: Mapping[str, str]) -> bool:
        kind, _, encoded = call.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return _same(form.get("client_secret", ""), self._secret)
        try:
            _, _, secret = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return False
        return _same(unquote_plus(secret), self._secret)

    def _asserted(self, call: Call, assertion: str) -> bool:
        try:
            header, payload, signature = assertion.split(".")
            assert self._key is not None
            text = f"{header}.{payload}".encode()
            self._key.verify(_bytes(signature), text, padding.PKCS1v15(), hashes.SHA256())
            claims: dict[str, Any] = json.loads(_bytes(payload))
            now = self._clock() / 1000
            return (
                json.loads(_bytes(header))["alg"] == "RS256"
                and claims["iss"] == self._issuer
                and bool(claims["scope"])
                and str(claims["aud"]).endswith(f"//{call.headers.get('host', '')}{call.path}")
                and claims["iat"] <= now + SKEW_S
                and claims["exp"] > now
                and claims["exp"] - claims["iat"] <= LONGEST_ASSERTION_S
            )
        except (ValueError, KeyError, TypeError, InvalidSignature):
            return False


def _public(account: str) -> tuple[str, rsa.RSAPublicKey | None]:
    """Who signs, and the key that proves it."""
    if not account:
        return "", None
    file = json.loads(account)
    key = serialization.load_pem_private_key(file["private_key"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return file["client_email"], key.public_key()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _bytes(encoded: str) -> bytes:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
