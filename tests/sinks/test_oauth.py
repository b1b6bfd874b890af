"""Tokens: what is asked of an authorization server, by each of three grants, and what its answers mean."""

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from todoke.schemas.errors import Misconfigured, Retry
from todoke.sinks.base import HttpRequest, HttpResponse
from todoke.sinks.emulators.server import Call
from todoke.sinks.emulators.tokens import Tokens
from todoke.sinks.oauth import ClientCredentials, Grant, RefreshToken, ServiceAccount, compact
from todoke.sinks.secrets import Secret

PEM = (Path(__file__).parents[1] / "golden/oauth/rfc7515-a2.pem").read_text(encoding="utf-8")
URL = "https://auth.example/token"
AT = 1_764_000_000_999
A2 = (  # RFC 7515, A.2.1
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1d"
    "nZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC"
    "-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)


def key_file(**changed: Any) -> Secret:
    whole = {
        "type": "service_account",
        "client_email": "todoke@project.example",
        "private_key_id": "k1",
        "private_key": PEM,
        "token_uri": "https://elsewhere.example/token",
    }
    return Secret(json.dumps({**whole, **changed}))


def clients() -> dict[str, Grant]:
    return {
        "client": ClientCredentials(URL, "an id", Secret("s&cret"), "a b"),
        "basic": ClientCredentials(URL, "an id", Secret("s&cret"), basic=True),
        "refresh": RefreshToken(URL, "an id", Secret("s&cret"), Secret("1//refresh")),
        "account": ServiceAccount(URL, key_file(), "https://scope.example/x", "partner p: secrets.file"),
    }


def form(request: HttpRequest) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(request.body.decode(), strict_parsing=True).items()}


def answer(body: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(status=status, headers=headers, body=json.dumps(body).encode())


def test_a_client_names_itself_in_the_form_or_in_the_header() -> None:
    in_form, in_header = (clients()[name].ask(AT) for name in ("client", "basic"))

    assert form(in_form) == {
        "grant_type": "client_credentials",
        "client_id": "an id",
        "client_secret": "s&cret",
        "scope": "a b",
    }
    assert "authorization" not in in_form.headers
    assert form(in_header) == {"grant_type": "client_credentials"}
    assert in_header.headers["authorization"] == "Basic YW4raWQ6cyUyNmNyZXQ="  # an+id:s%26cret


def test_a_refresh_token_is_handed_in() -> None:
    request = clients()["refresh"].ask(AT)

    assert (request.method, request.url) == ("POST", URL)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "1//refresh",
        "client_id": "an id",
        "client_secret": "s&cret",
    }
    own = RefreshToken(URL, "an id", Secret("s&cret"), Secret("1//refresh"), basic=True).ask(AT)
    assert form(own) == {"grant_type": "refresh_token", "refresh_token": "1//refresh"}
    assert own.headers["authorization"].startswith("Basic ")


def test_a_service_account_claims_what_google_asks_for() -> None:
    sent = form(clients()["account"].ask(AT))
    header, claims, signature = sent["assertion"].split(".")

    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert decoded(header) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert decoded(claims) == {
        "iss": "todoke@project.example",
        "scope": "https://scope.example/x",
        "aud": URL,
        "iat": 1_763_999_970,
        "exp": 1_764_003_570,
    }
    assert len(signature) == 342
    assert "=" not in sent["assertion"]


def test_a_signature_is_the_one_of_rfc_7515() -> None:
    key = load_pem_private_key(PEM.encode(), None)
    assert isinstance(key, RSAPrivateKey)

    payload = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
    assert compact({"alg": "RS256"}, payload, key) == A2


@pytest.mark.parametrize(
    ("body", "lasts_ms"),
    [
        ({"access_token": "t", "expires_in": 3599, "token_type": "Bearer"}, 3_599_000),
        ({"access_token": "t", "expires_in": "900", "token_type": "bearer"}, 900_000),
        ({"access_token": "t"}, 300_000),
    ],
)
def test_a_token_is_read_with_its_life(body: Any, lasts_ms: int) -> None:
    token = clients()["client"].read(answer(body))

    assert (token.value, token.lasts_ms) == ("t", lasts_ms)


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (answer({"error": "invalid_grant", "error_description": "taro"}, 400), ("token-invalid-grant", 900.0)),
        (answer({"error": "invalid_client"}, 401), ("token-invalid-client", 900.0)),
        (answer({"error": "taro@example.com"}, 403), ("token-http-403", 900.0)),
        (answer({}, 302, location="https://elsewhere.example"), ("token-http-302", 900.0)),
        (answer({}, 429, **{"retry-after": "7"}), ("token-http-429", 7.0)),
        (answer({"error": "invalid_grant"}, 503), ("token-http-503", None)),
        (answer({"access_token": ""}), ("token-unreadable", 900.0)),
        (answer({"access_token": "a\r\nb"}), ("token-unreadable", 900.0)),
        (answer({"access_token": 7}), ("token-unreadable", 900.0)),
        (answer({"access_token": "t", "expires_in": 0}), ("token-unreadable", 900.0)),
        (answer({"access_token": "t", "expires_in": True}), ("token-unreadable", 900.0)),
        (answer({"access_token": "t", "token_type": "mac"}), ("token-unreadable", 900.0)),
        (answer([]), ("token-unreadable", 900.0)),
        (HttpResponse(status=200, headers={}, body=b"<html>"), ("token-unreadable", 900.0)),
    ],
)
def test_no_refusal_of_a_token_gives_up_a_stop(response: HttpResponse, wanted: tuple[str, float | None]) -> None:
    with pytest.raises(Retry) as raised:
        clients()["client"].read(response)

    assert (raised.value.reason, raised.value.after) == wanted
    assert raised.value.perhaps is False


@pytest.mark.parametrize(
    "file",
    [
        Secret("not JSON"),
        Secret("{}"),
        key_file(private_key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        key_file(private_key=7),
        key_file(
            private_key=generate_private_key(SECP256R1())
            .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            .decode()
        ),
    ],
)
def test_an_unsound_key_file_is_named_and_not_shown(file: Secret) -> None:
    with pytest.raises(Misconfigured, match=r"^partner p: secrets.file: ") as raised:
        ServiceAccount(URL, file, "s", "partner p: secrets.file")

    assert "AAAA" not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


@pytest.mark.parametrize("name", ["client", "basic", "refresh", "account"])
def test_the_emulated_endpoint_takes_each_grant_and_refuses_another_secret(name: str) -> None:
    other = json.dumps({"client_email": "x", "private_key": PEM})
    request = clients()[name].ask(AT)
    call = Call(request.method, "/token", "", {**request.headers, "host": "auth.example"}, request.body)

    given = [
        Tokens(lambda: AT, secret=secret, refresh="1//refresh", account=account).answer(call, None)
        for secret, account in (("s&cret", key_file().reveal()), ("other", other))
    ]

    assert [each.status for each in given] == [200, 400 if name == "account" else 401]
    assert clients()[name].read(answer(given[0].body)).lasts_ms == 3_600_000
    with pytest.raises(Retry, match=r"^token-invalid-(grant|client)$"):
        clients()[name].read(answer(given[1].body, given[1].status))


def test_no_secret_is_shown() -> None:
    shown = "".join(f"{each!r}{each.ask(AT)!r}" for each in clients().values())

    assert not any(secret in shown for secret in ("s&cret", "refresh", "PRIVATE", "eyJ"))


def decoded(part: str) -> Any:
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
