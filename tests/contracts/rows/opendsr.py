"""OpenDSR, in the dialect of the specification; the others have their golden requests here and their tests beside."""

from todoke.schemas.errors import Rejected, Retry
from todoke.schemas.identity import Identifier
from todoke.schemas.receipts import Evidence
from todoke.sinks.secrets import Secret

from . import EMAIL, GAID, IDFA, MEMBER, PHONE, WAY, Case, Row, item

ACCEPTED = [(Evidence.accepted, "")]
BASIC = {"api_secret": Secret("api-secret-of-nobody")}
APPS = {"dialect": "appsflyer", "base_url": "https://hq1.appsflyer.com/api/gdpr/v1"}
MPARTICLE = {"dialect": "mparticle", "base_url": "https://opendsr.mparticle.com/v3"}
OLD = Identifier("email", "taro.old@example.com")

ROW = Row(
    settings={"base_url": "https://processor.example/v2"},
    secrets={"api_key": Secret("api-key-of-nobody")},
    addresses={"base_url": "/v2"},
    secret="api_key",
    kinds=("email", "member_id", "idfa", "gaid"),
    verbs=("delete",),
    grants=False,
    verb="delete",
    key=("api-key-of-nobody", "api-secret-of-nobody", "YXBpLWtleS1vZi1ub2JvZHk6"),
    applied=("deleted",),
    cases=(
        Case("delete", (item("delete", EMAIL, PHONE, MEMBER, IDFA, GAID),)),
        Case("sha256", (item("delete", EMAIL, OLD),), {"identity_format": "sha256", "regulation": "ccpa"}),
        Case("mparticle", (item("delete", EMAIL, OLD, MEMBER, IDFA, GAID),), MPARTICLE, BASIC),
        Case("mparticle-soon", (item("delete", EMAIL),), {**MPARTICLE, "skip_waiting_period": True}, BASIC),
        Case(
            "appsflyer-ios",
            (item("delete", IDFA, GAID, MEMBER),),
            {**APPS, "property_ids": {"main": "id123456789"}},
            kinds=("idfa", "member_id"),
        ),
        Case(
            "appsflyer-android",
            (item("delete", IDFA, GAID, MEMBER),),
            {**APPS, "property_ids": {"main": "com.example.app"}},
            kinds=("gaid", "member_id"),
        ),
    ),
    faults={
        **WAY,
        "slow": ACCEPTED,
        "429": Retry("http-429", perhaps=False),
        "429-retry-after": Retry("http-429", 90.0, perhaps=False),
        "500": Retry("http-500"),
        "auth": Retry("auth", 900.0, perhaps=False),
        "exists": ACCEPTED,
        "conflict": ACCEPTED,
        "invalid": Rejected("http-400"),
        "other-request": Retry("answer-of-something-else"),
        "late-failure": ACCEPTED,
        "wrong-signature": ACCEPTED,
        "wrong-domain": ACCEPTED,
    },
)
