"""Three ways to a bearer token: client credentials, a refresh token, a service account's signed assertion.

Sources: RFC 6749 (2.3.1, 4.4, 5.1, 5.2, 6), RFC 6750, RFC 7515, RFC 7523 (2.1, 3); Google, "Using OAuth 2.0 for Server to
Server Applications" for the service account's key file and claims.
"""

from abc import ABC, abstractmethod
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from urllib.parse import quote_plus, urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from todoke.schemas.errors import Misconfigured, Retry

from .base import SOMEBODY_MUST_ACT_S, HttpRequest, HttpResponse, Token
from .http import json_object, retry_after
from .secrets import Secret

LASTS_S = 300
"""How long a token counts as good whose answer says nothing (RFC 6749, 5.1 only recommends it); a dead one is noticed."""
ASSERTION_S = 3600
SKEW_S = 30
"""An assertion begins so long ago: one from the future is refused, and no two clocks agree."""

CODES = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
"""RFC 6749, 5.2. Any other word in `error` is not repeated: it may be anything."""

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Grant(ABC):
    """What the three share: a form to the token endpoint, and how its answer is read."""

    def __init__(self, token_url: str, scope: str = "") -> None:
        self._token_url = token_url
        self._scope = scope

    def ask(self, at: int) -> HttpRequest:
        """The call for a token, at `at` (ms)."""
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        form = {name: value for name, value in self.form(at).items() if value}
        return HttpRequest(
            method="POST", url=self._token_url, headers={**headers, **self.headers()}, body=urlencode(form).encode()
        )

    @abstractmethod
    def form(self, at: int) -> Mapping[str, str]:
        """The parameters; an empty one is left out."""

    def headers(self) -> Mapping[str, str]:
        """What stands in headers besides."""
        return {}

    def read(self, response: HttpResponse) -> Token:
        """The token. Raises `Retry`: nothing was told yet, and no refusal here gives up a stop.

        A `refresh_token` in the answer is not kept: nothing here can write a secret, so a server that gives a new one
        at each use and takes the old one no longer can't be served.
        """
        answer = json_object(response) or {}
        if response.status == 200:
            value, lasts = answer.get("access_token"), _seconds(answer.get("expires_in", LASTS_S))
            kind = answer.get("token_type", "bearer")
            if _sendable(value) and lasts and isinstance(kind, str) and kind.lower() == "bearer":
                return Token(value=str(value), lasts_ms=lasts * 1000)
            raise Retry("token-unreadable", SOMEBODY_MUST_ACT_S, perhaps=False)
        if response.status in {408, 429} or response.status >= 500:
            raise Retry(f"token-http-{response.status}", retry_after(response.headers), perhaps=False)
        code = answer.get("error")
        named = code.replace("_", "-") if isinstance(code, str) and code in CODES else f"http-{response.status}"
        raise Retry(f"token-{named}", SOMEBODY_MUST_ACT_S, perhaps=False)


class ClientCredentials(Grant):
    """RFC 6749, 4.4. The client names itself in the form, or with `basic` in the header (2.3.1)."""

    def __init__(
        self, token_url: str, client_id: str, client_secret: Secret, scope: str = "", *, basic: bool = False
    ) -> None:
        super().__init__(token_url, scope)
        self._client_id = client_id
        self._client_secret = client_secret
        self._basic = basic

    def form(self, at: int) -> Mapping[str, str]:  # noqa: ARG002  # no time in it
        own = {} if self._basic else {"client_id": self._client_id, "client_secret": self._client_secret.reveal()}
        return {"grant_type": "client_credentials", "scope": self._scope, **own}

    def headers(self) -> Mapping[str, str]:
        return basic(self._client_id, self._client_secret) if self._basic else {}


class RefreshToken(Grant):
    """RFC 6749, 6: a person has consented once, and the refresh token stands for that."""

    def __init__(
        self, token_url: str, client_id: str, client_secret: Secret, refresh: Secret, *, basic: bool = False
    ) -> None:
        super().__init__(token_url)
        self._client_id = client_id
        self._client_secret = client_secret
        self._refresh = refresh
        self._basic = basic

    def form(self, at: int) -> Mapping[str, str]:  # noqa: ARG002  # no time in it
        own = {} if self._basic else {"client_id": self._client_id, "client_secret": self._client_secret.reveal()}
        return {"grant_type": "refresh_token", "refresh_token": self._refresh.reveal(), **own}

    def headers(self) -> Mapping[str, str]:
        return basic(self._client_id, self._client_secret) if self._basic else {}


class ServiceAccount(Grant):
    """RFC 7523, 2.1, as Google has it: an assertion signed with RS256, by the key in the account's file.

    The key file names an address for tokens too. It isn't used: addresses come from settings, where they are judged.
    """

    def __init__(self, token_url: str, file: Secret, scope: str, where: str) -> None:
        """`file` is the JSON of a service account's key. Raises `Misconfigured` naming `where`, never what stands there."""
        super().__init__(token_url, scope)
        fix = f"{where}: not the JSON key file of a service account; create a key and give that file"
        try:
            account = msgspec.json.decode(file.reveal(), type=_KeyFile)
            key = load_pem_private_key(account.private_key.encode(), password=None)
        except (msgspec.DecodeError, ValueError, TypeError, UnsupportedAlgorithm):
            raise Misconfigured(fix) from None
        if not isinstance(key, RSAPrivateKey):
            raise Misconfigured(f"{where}: the key is not an RSA key; create a key of that kind")
        self._email = account.client_email
        self._key_id = account.private_key_id
        self._key = key

    def form(self, at: int) -> Mapping[str, str]:
        issued = at // 1000 - SKEW_S
        claims = {
            "iss": self._email,
            "scope": self._scope,
            "aud": self._token_url,
            "iat": issued,
            "exp": issued + ASSERTION_S,
        }
        header = {"alg": "RS256", "typ": "JWT", **({"kid": self._key_id} if self._key_id else {})}
        return {"grant_type": JWT_BEARER, "assertion": compact(header, msgspec.json.encode(claims), self._key)}


class _KeyFile(Struct, frozen=True):
    client_email: str
    private_key: str
    private_key_id: str = ""

    def __repr__(self) -> str:
        return "_KeyFile(…)"


def compact(header: Mapping[str, str], payload: bytes, key: RSAPrivateKey) -> str:
    """A JWS in compact form (RFC 7515, 3.1), by RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518, 3.3)."""
    text = f"{_base64url(msgspec.json.encode(header))}.{_base64url(payload)}"
    return f"{text}.{_base64url(key.sign(text.encode(), PKCS1v15(), hashes.SHA256()))}"


def basic(client_id: str, secret: Secret) -> Mapping[str, str]:
    """The header of a client that names itself (RFC 6749, 2.3.1: both parts are form-encoded first)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
    return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _seconds(value: object) -> int:
    """A positive count of seconds; some servers write it as text. 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _sendable(value: object) -> bool:
    """Whether a header can carry it (RFC 6750, 2.1: visible ASCII)."""
    return isinstance(value, str) and value != "" and all("!" <= each <= "~" for each in value)
