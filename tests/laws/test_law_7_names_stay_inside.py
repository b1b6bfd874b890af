"""Law 7: no identifier of a person in a log line, metric, topic, key, header, error or dead-letter view."""

import io
import logging

import pytest
from prometheus_client.exposition import generate_latest
from rich.console import Console

from tests.laws.events import ADULT, delete, grant, provide, topic_of, unsubscribe, withdraw
from tests.town import Town
from todoke.processors.keys import subject_ref
from todoke.schemas.events import INTAKE
from todoke.schemas.identity import Identifier
from todoke.streams import people, story
from todoke.streams.topics import TOPICS

pytestmark = pytest.mark.stack
SUBJECT = "member-zzz-98765"
IDENTIFIERS = ("secret.person", "8012345678", SUBJECT, "u77777777777777777777777777777777")
BORN = "1980-04-01"


async def test_nothing_that_leaves_the_inside_names_a_person(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "todoke")
    await town.fault("meta", kind="invalid-rows", times=2)
    await town.fault("kura-crm", kind="500", times=2)
    identifiers = (
        Identifier("email", "Secret.Person@example.jp"),
        Identifier("phone", "080-1234-5678"),
        Identifier("line_id", "U77777777777777777777777777777777"),
    )
    events = [
        grant(SUBJECT, identifiers=identifiers, age=ADULT),
        grant(SUBJECT, "marketing-communications", identifiers=identifiers),
        provide(SUBJECT, "meta"),
        unsubscribe(SUBJECT),
        withdraw(SUBJECT, identifiers=identifiers),
        withdraw(SUBJECT, "no-such-purpose", identifiers=identifiers),
        grant(SUBJECT, identifiers=(Identifier("email", "secret.person at nowhere"),)),
        delete(SUBJECT, at=9000),
    ]
    for event in events:
        await town.publish(topic_of(event), event)
    await town.settled()

    inside = [topic.name for topic in TOPICS if topic.name not in INTAKE and "<" not in topic.name]
    inside += [f"directives.{partner.name}" for partner in town.made.tools.rules.registry.partners]
    travelled = list(town.raw(inside))
    ref = subject_ref(town.made.tools.keyring, SUBJECT)
    told = people.subject_page(story.of_subject(town.made.tools, ref, town.reader()), ref)
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(told)
    console.print(people.letters_page(town.reader().letters(), 100))
    shown = console.export_text()
    metrics = generate_latest(town.made.metrics.registry).decode()
    said = caplog.text + "".join(repr(event) for event in events)

    assert len(travelled) > len(events)
    for name in IDENTIFIERS:
        assert not [raw for raw in travelled if name.encode() in raw.lower()]
    for name in (*IDENTIFIERS, BORN):  # an age is no identifier: the record holds it until it is shredded
        assert name not in shown.lower()
        assert name not in metrics.lower()
        assert name not in said.lower()
