"""The signed webhook: the spec's own vector, receipts that count and receipts that don't."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from todoke.schemas.errors import Misconfigured, Rejected
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence
from todoke.sinks import signatures
from todoke.sinks.base import HttpResponse, Item
from todoke.sinks.connectors.webhook import Config, Webhook
from todoke.sinks.events import Form
from todoke.sinks.secrets import Secret

KEY = signatures.key_of(Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "test")
OTHER = b"n" * 24
ASKED = Item(
    obligation_id="o-1",
    request_id="r-1",
    verb="delete",
    account="main",
    scope="ads",
    at=1_764_000_000_123,
    deadline_at=1_764_003_600_000,
    identifiers=(Identifier("email", "taro@example.com"), Identifier("phone", "none")),
)
RECEIPT = {"obligation_id": "o-1", "effect": "deleted", "status": "processed", "reference": "T-7"}


def webhook(form: Form = "sha256", *, receipts: bool = True) -> Webhook:
    config = Config(url="https://partner.example/", identifier_form=form, receipts=receipts)
    return Webhook(config, [KEY, OTHER])


def answer(
    receipt: Any, changed: dict[str, str] | None = None, *, identity: str = "r-1", key: bytes = KEY
) -> HttpResponse:
    body = json.dumps({"receipt": receipt}).encode()
    signed = signatures.headers([key], identity, 1_764_000_001_000, body)
    return HttpResponse(status=200, headers={**signed, **(changed or {})}, body=body)


def test_the_libraries_of_the_spec_sign_the_same() -> None:
    body = b'{"test": 2432232314}'

    signed = signatures.sign(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_request_is_signed_with_every_secret_over_what_is_sent() -> None:
    request = webhook().request([ASKED], 1_764_000_005_999)

    assert request.headers["webhook-timestamp"] == "1764000005"
    ours = [signatures.sign(key, "r-1", "1764000005", request.body) for key in (KEY, OTHER)]
    assert request.headers["webhook-signature"].split(" ") == ours


def test_the_event_names_people_in_the_form_asked_for_and_drops_what_names_nobody() -> None:
    hashed, plain = (
        json.loads(webhook(form).request([ASKED], 0).body)["data"]["identifiers"] for form in ("sha256", "plain")
    )

    assert plain == [{"kind": "email", "value": "taro@example.com"}]
    assert hashed == [{"kind": "email", "sha256": "3df36ef44a86ba6433126b5899410e5cd481163a0f05fa83eef3edf60abe58ac"}]


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_a_receipt_under_a_secret_of_ours_is_processed(key: bytes) -> None:
    [outcome] = webhook().verdict([ASKED], answer(RECEIPT, key=key))

    assert (outcome.grade, outcome.reference, outcome.reason) == (Evidence.processed, "T-7", "")


@pytest.mark.parametrize(
    ("given", "reference"),
    [
        (answer(RECEIPT, key=b"x" * 24), "receipt-unverified"),
        (answer(RECEIPT, identity="r-2"), "receipt-unverified"),
        (answer(RECEIPT, {"webhook-signature": ""}), "receipt-unverified"),
        (answer(RECEIPT, {"webhook-timestamp": "1"}), "receipt-unverified"),
        (answer(RECEIPT, {"webhook-id": ""}), "receipt-unverified"),
        (answer({**RECEIPT, "obligation_id": "o-2"}), "receipt-of-something-else"),
        (answer({**RECEIPT, "effect": "withdrawn"}), "receipt-of-something-else"),
        (answer({**RECEIPT, "status": "queued"}), "receipt-of-something-else"),
        (answer({}), "receipt-of-something-else"),
        (answer("yes"), ""),
        (HttpResponse(status=204, headers={}, body=b""), ""),
        (HttpResponse(status=200, headers={}, body=b"<html>"), ""),
    ],
)
def test_anything_less_is_accepted_and_says_why(given: HttpResponse, reference: str) -> None:
    [outcome] = webhook().verdict([ASKED], given)

    assert (outcome.grade, outcome.reference, outcome.reason) == (Evidence.accepted, reference, "")


@pytest.mark.parametrize("reference", ["taro@example.com", "Taro Yamada", "x" * 129, "", 7.5, None, ["a"]])
def test_a_reference_that_might_be_a_person_is_dropped(reference: object) -> None:
    [outcome] = webhook().verdict([ASKED], answer({**RECEIPT, "reference": reference}))

    assert outcome.grade is Evidence.processed
    assert "aro" not in outcome.reference


def test_receipts_count_only_where_they_were_agreed_on() -> None:
    built = webhook(receipts=False)

    assert built.verdict([ASKED], answer(RECEIPT))[0].grade is Evidence.accepted
    assert (built.reaches, webhook().reaches) == (Evidence.accepted, Evidence.processed)


def test_our_own_request_sent_back_is_no_receipt() -> None:
    request = webhook().request([ASKED], 0)

    [outcome] = webhook().verdict([ASKED], HttpResponse(status=200, headers=request.headers, body=request.body))

    assert outcome.grade is Evidence.accepted


def test_an_endpoint_that_is_gone_is_refused_for_good() -> None:
    with pytest.raises(Rejected, match=r"^endpoint-gone$"):
        webhook().verdict([ASKED], HttpResponse(status=410, headers={}, body=b""))


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_???", "whsec_" + "QUFB" * 22])
def test_a_secret_that_is_none_of_the_spec_is_named_and_not_shown(secret: str) -> None:
    with pytest.raises(Misconfigured, match=r"^somewhere: expected whsec_ and Base64 of 24 to 64 bytes") as raised:
        signatures.key_of(Secret(secret), "somewhere")

    assert secret in {"", "whsec_"} or secret not in str(raised.value)


def test_a_secret_may_lack_its_padding_and_its_prefix() -> None:
    padded = "whsec_" + "QUFB" * 8 + "QQ=="

    assert signatures.key_of(Secret(padded), "") == signatures.key_of(Secret(padded[6:-2]), "") == b"A" * 25


def test_an_item_that_names_nobody_is_refused() -> None:
    with pytest.raises(Rejected, match=r"^no-usable-identifier$"):
        webhook().request([replace(ASKED, identifiers=(Identifier("phone", "119"),))], 0)
