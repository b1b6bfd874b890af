"""What the view finds by: aliases of subjects, first outcomes of events, and which obligations stand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from todoke.schemas.events import Outcome
from todoke.schemas.obligations import ENDED, Obligation
from todoke.schemas.record import SubjectRecord
from todoke.schemas.told import Told

from .view import Command, View

FIRST = """
local held = {}
for i, key in ipairs(KEYS) do
  held[i] = redis.call('SET', key, ARGV[i + 1], 'NX', 'GET', 'PX', ARGV[1])
end
return held
"""


class Standing(Struct, frozen=True):
    """How much is pending at one partner, and since when (ms, 0 for nothing): a histogram alone is blind to a stall."""

    pending: int
    oldest_at: int


class Index:
    """Look-ups beside the cells. All of it is rebuilt by the keeper from the compacted topics, but for outcomes."""

    def __init__(self, view: View, keep_outcomes_ms: int) -> None:
        """Outcomes are forgotten after `keep_outcomes_ms`; the topic keeps them."""
        self.view = view
        self.keep_outcomes_ms = keep_outcomes_ms
        self._first = view.client.register_script(FIRST)

    def subjects(self, aliases: Sequence[str]) -> list[list[str]]:
        """The subjects that each alias belongs to, sorted."""
        found = self.view.read([("SMEMBERS", self.view.key("a", alias)) for alias in aliases])
        return [sorted(ref.decode() for ref in refs) for refs in found]

    def enlist(self, records: Iterable[SubjectRecord]) -> None:
        """Make the subjects findable by every identifier that their records hold."""
        pipeline = self.view.client.pipeline(transaction=False)
        for record in records:
            for alias in {name for each in record.identifiers.values() for name in each.names}:
                pipeline.sadd(self.view.key("a", alias), record.subject_ref)
        pipeline.execute()

    def delist(self, ref: str, aliases: Iterable[str]) -> None:
        """Forget that these aliases were the subject's: they have been shredded."""
        pipeline = self.view.client.pipeline(transaction=False)
        for alias in aliases:
            pipeline.srem(self.view.key("a", alias), ref)
        pipeline.execute()

    def refer(self, told: Iterable[Told]) -> None:
        """Make findable whom the jobs concern that partners have been given."""
        pipeline = self.view.client.pipeline(transaction=False)
        for each in told:
            for reference in references(each):
                pipeline.sadd(job_key(self.view, each.partner, reference), each.subject_ref)
        pipeline.execute()

    def first_outcomes(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The first outcome ever noted for each event but a refusal: a duplicate is answered as the first copy was.

        An event that was refused, corrected and sent again under its id has been admitted after all.
        """
        if not outcomes:
            return []
        codec = self.view.codec
        keys = [self.view.key("e", each.event_id) for each in outcomes]
        noted = self._first(keys=keys, args=[self.keep_outcomes_ms, *map(codec.encode, outcomes)])
        held = [codec.decode(raw, Outcome) if raw else None for raw in noted]
        first = [
            ours if noted is None or (noted.outcome == "refused" and ours.outcome != "refused") else noted
            for ours, noted in zip(outcomes, held, strict=True)
        ]
        pipeline = self.view.client.pipeline(transaction=False)
        for ours, noted in zip(first, held, strict=True):
            if noted is not None and ours != noted:
                pipeline.set(self.view.key("e", ours.event_id), self.view.codec.encode(ours), px=self.keep_outcomes_ms)
        pipeline.execute()
        return first

    def outcomes(self, event_ids: Sequence[str]) -> list[Outcome | None]:
        """The outcome of each event, None where none is noted."""
        held = self.view.read([("GET", self.view.key("e", name)) for name in event_ids])
        return [None if raw is None else self.view.codec.decode(raw, Outcome) for raw in held]

    def track(self, obligations: Iterable[Obligation]) -> None:
        """Keep the standing and the ended obligations of each partner in order of time."""
        standing: dict[str, dict[str, int]] = {}
        gone: dict[str, list[str]] = {}
        ended: dict[str, int] = {}
        deletes: dict[str, int] = {}
        for each in obligations:
            member = f"{each.subject_ref}|{each.obligation_id}"
            if each.state in ENDED:
                gone.setdefault(each.partner, []).append(member)
                ended[member] = each.ended_at
            else:
                standing.setdefault(each.partner, {})[member] = each.appended_at
                if each.verb == "delete":
                    deletes[member] = each.deadline_at
        pipeline = self.view.client.pipeline(transaction=False)
        for partner, members in gone.items():
            pipeline.zrem(self.view.key("standing", partner), *members)
        for partner, scores in standing.items():
            pipeline.zadd(self.view.key("standing", partner), scores)
            pipeline.zrem(self.view.key("ended"), *scores)  # it may have been opened again
        if standing:
            pipeline.sadd(self.view.key("recipients"), *standing)
        if ended:
            pipeline.zrem(self.view.key("deletes"), *ended)
            pipeline.zadd(self.view.key("ended"), ended)
        if deletes:
            pipeline.zadd(self.view.key("deletes"), deletes)
        pipeline.execute()

    def standing(self, partners: Sequence[str]) -> Mapping[str, Standing]:
        """Pending count and age per partner."""
        commands: list[Command] = []
        for name in partners:
            key = self.view.key("standing", name)
            commands += [("ZCARD", key), ("ZRANGE", key, 0, 0, "WITHSCORES")]
        answers = self.view.read(commands)
        pairs = zip(partners, answers[::2], answers[1::2], strict=True)
        return {name: Standing(count, int(first[1]) if first else 0) for name, count, first in pairs}

    def recipients(self) -> list[str]:
        """Everybody at whom an obligation stands or stood, in the registry or not."""
        (found,) = self.view.read([("SMEMBERS", self.view.key("recipients"))])
        return sorted(name.decode() for name in found)

    def all_standing(self) -> Iterator[tuple[str, str]]:
        """Every (subject, obligation) that stands, at any recipient."""
        for name in self.recipients():
            for member, _ in self.view.client.zscan_iter(self.view.key("standing", name)):
                yield _pair(member)

    def all_ended(self) -> Iterator[tuple[str, str]]:
        """Every (subject, obligation) that has ended and is not forgotten yet."""
        for member, _ in self.view.client.zscan_iter(self.view.key("ended")):
            yield _pair(member)

    def oldest(self, partner: str, limit: int) -> list[tuple[str, str]]:
        """The (subject, obligation) that have stood longest at a partner."""
        (rows,) = self.view.read([("ZRANGE", self.view.key("standing", partner), 0, limit - 1)])
        return [_pair(row) for row in rows]

    def standing_before(self, partner: str, at: int) -> list[tuple[str, str]]:
        """The (subject, obligation) that have stood at a partner since before `at` (ms), the oldest first."""
        (rows,) = self.view.read([("ZRANGEBYSCORE", self.view.key("standing", partner), "-inf", at)])
        return [_pair(row) for row in rows]

    def ended_before(self, at: int, limit: int) -> list[tuple[str, str]]:
        """The (subject, obligation) that ended before `at` (ms), the oldest first."""
        (rows,) = self.view.read([("ZRANGEBYSCORE", self.view.key("ended"), "-inf", at, "LIMIT", 0, limit)])
        return [_pair(row) for row in rows]

    def ended_since(self, at: int) -> list[tuple[str, str]]:
        """The (subject, obligation) that ended at `at` (ms) or later, the oldest first."""
        (rows,) = self.view.read([("ZRANGEBYSCORE", self.view.key("ended"), at, "+inf")])
        return [_pair(row) for row in rows]

    def overdue_deletes(self, at: int, limit: int) -> list[str]:
        """Subjects for whom a delete stands whose deadline was before `at` (ms), the oldest first."""
        (rows,) = self.view.read([("ZRANGEBYSCORE", self.view.key("deletes"), "-inf", at, "LIMIT", 0, limit)])
        return [_pair(row)[0] for row in rows]

    def keep(self, ref: str, obligation_id: str, at: int) -> None:
        """Count an ended obligation as if it had ended at `at` (ms): it is still the answer to a demand."""
        self.view.client.zadd(self.view.key("ended"), {f"{ref}|{obligation_id}": at}, xx=True)

    def settled_deletes(self, at: int, refs: Iterable[str]) -> None:
        """Let go of the deletes of these subjects that were due before `at` (ms): they have been acted on."""
        wanted = set(refs)
        rows = self.view.client.zrangebyscore(self.view.key("deletes"), "-inf", at)
        done = [row for row in rows if _pair(row)[0] in wanted]
        if done:
            self.view.client.zrem(self.view.key("deletes"), *done)

    def forget(self, ended: Iterable[tuple[str, str]]) -> None:
        """Drop ended (subject, obligation)s from the view: their tombstones are in the topic."""
        pipeline = self.view.client.pipeline(transaction=False)
        for ref, obligation_id in ended:
            member = f"{ref}|{obligation_id}"
            pipeline.hdel(self.view.key("o", ref), obligation_id)
            pipeline.zrem(self.view.key("ended"), member)
            pipeline.zrem(self.view.key("deletes"), member)
        pipeline.execute()


def _pair(member: bytes) -> tuple[str, str]:
    ref, _, name = member.decode().partition("|")
    return ref, name


def references(told: Told) -> tuple[str, ...]:
    """Partners' names of the jobs that calls became, sorted, each once."""
    return tuple(sorted({each.reference for each in told.attempts.values() if each.reference}))


def job_key(view: View, partner: str, reference: str) -> str:
    """Where the view keeps whom a job of a partner concerns."""
    return view.key("job", partner, reference)
