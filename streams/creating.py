"""Obligations that nobody else has made: what time alone demands, or a worker died over."""

from todoke.processors.plan import Cause, obligation
from todoke.schemas.obligations import ENDED
from todoke.schemas.obligations import join as join_obligations
from todoke.schemas.partners import Partner

from .batches import Look
from .kept import letter
from .outbox import Letter
from .tools import Tools
from .view import join_with


def created(tools: Tools, partner: Partner, look: Look) -> list[Letter]:
    """Make in the view what a look at a subject found to be demanded of `partner`, and the letters that make it durable."""
    at, ref = tools.now(), look.entry.subject_ref
    cells = tools.view.obligations
    owed = list(cells.all([ref])[0].values())
    standing = [each for each in owed if each.state not in ENDED]
    # what stood when it was looked at may have ended since
    last = max(standing or owed, key=lambda each: (each.appended_at, each.event_id), default=None)
    if last is None:
        return []
    cause = Cause("time", last.event_id, last.appended_at)
    made = [obligation(ref, demand, partner, cause, at) for demand in look.work.create]
    wanted = {cells.cell(ref, each.obligation_id): each for each in made}
    written = cells.update(wanted, join_with(wanted, join_obligations))
    tools.index.track(written.values())
    return [letter(tools, each) for each in written.values()]
