"""Look-ups: allow, deny or unknown, with the age of what is known (law 6). Stale or missing is never allow."""

from typing import Literal

import redis
from msgspec import Struct

from todoke.processors.decide import judge
from todoke.processors.keys import subject_ref
from todoke.schemas.errors import NotCurrent
from todoke.schemas.record import SubjectRecord

from .kin import person_aged
from .tools import Tools

Answer = Literal["allow", "deny", "unknown"]


class Permission(Struct, frozen=True):
    """The answer for one scope; `age_ms` is how old the knowledge is, None where nothing can be known."""

    answer: Answer
    reasons: tuple[str, ...]
    age_ms: int | None


def look_up(tools: Tools, subject: str, scope: str, *, third_party: bool = False) -> Permission:
    """Whether `scope`, a purpose or channel of the policy, may be used for upstream's `subject` now.

    A person of whom nothing is known gets the policy's `absent` answer, from a current view alone.
    """
    now = tools.now()
    try:
        record, age = person_aged(tools.view, subject_ref(tools.keyring, subject))
    except NotCurrent:
        return Permission("unknown", ("view-not-current",), None)
    except (redis.ConnectionError, redis.TimeoutError):
        return Permission("unknown", ("view-unreachable",), None)
    policy = tools.rules.policy
    if record is None:
        purposes = [policy.purpose(name) for name in _purposes(tools, scope)]
        if any(purpose is None or purpose.absent == "deny" or purpose.bars_minors for purpose in purposes):
            return Permission("deny", ("absent",), age)
        record = SubjectRecord("")
    verdict = judge(record, scope, policy, now, third_party=third_party)
    return Permission("allow" if verdict.allowed else "deny", verdict.reasons, age)


def _purposes(tools: Tools, scope: str) -> tuple[str, ...]:
    channel = tools.rules.policy.channel(scope.partition("/")[0])
    return channel.purposes if channel else (scope,)
