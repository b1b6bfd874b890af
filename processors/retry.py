"""When to try again: a pure function of the failure, the attempt and the time."""

from msgspec import Struct

FIRST_MS = 500
LONGEST_MS = 15 * 60_000
ATTEMPTS = 200


class Later(Struct, frozen=True):
    """Try again at `at` (ms)."""

    at: int


class GiveUp(Struct, frozen=True):
    """Stop trying; a person must look. `reason` is a code."""

    reason: str


def after(reason: str, wait_s: float | None, attempt: int, at: int, jitter: float) -> Later | GiveUp:
    """What to do after failed attempt number `attempt` (from 1), at `at` (ms).

    `wait_s` is the delay that the partner asked for; it is obeyed, with jitter on top, never shortened. Else the delay
    doubles from half a second to a quarter of an hour, of which `jitter` (0 to 1) takes a random half, so that callers
    who failed together don't return together.
    """
    if attempt >= ATTEMPTS:
        return GiveUp(f"gave-up-after-{ATTEMPTS}:{reason}")
    if wait_s is not None:
        return Later(at + int(wait_s * 1000 * (1 + jitter / 10)))
    full = min(FIRST_MS * 2 ** min(attempt - 1, 20), LONGEST_MS)
    return Later(at + int(full * (0.5 + jitter / 2)))
