"""The schema registry, against a real Apicurio Registry 3: on deploy, at start, with two versions at once, and down."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from fastavro import parse_schema, schemaless_writer
from msgspec.structs import asdict, replace

from tests.apicurio import Apicurio
from tests.laws.events import grant, withdraw
from tests.town import Town
from todoke.schemas import contracts
from todoke.schemas.codec import HEADER, MAGIC, Codec
from todoke.schemas.errors import Misconfigured, Retry
from todoke.schemas.events import ConsentChange
from todoke.streams import build, deploy, registry
from todoke.streams.cli import main
from todoke.streams.embedded.stack import Addresses
from todoke.streams.registry import LEVEL, SchemaRegistry, subject
from todoke.streams.settings import Registry, Settings
from todoke.streams.topics import carried

pytestmark = pytest.mark.stack

CURRENT = contracts.current(contracts.folder())
SCHEMA = CURRENT["ConsentChange"]
OLDER = {**SCHEMA, "fields": [each for each in SCHEMA["fields"] if each["name"] != "age"]}
NEWER = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "mood", "type": "string", "default": "calm"}]}
RETYPED = "change it back, and put the new type into a new field with a default"
BROKEN = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "mood", "type": "string"}]}


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """Up for the module; a test that stops it starts it again."""
    found = Apicurio(tmp_path_factory.mktemp("apicurio"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def settings(apicurio: Apicurio) -> Settings:
    return Settings(namespace=f"{uuid4().hex[:8]}.", registry=Registry(url=apicurio.url))


def partners(settings: Settings) -> list[str]:
    return [partner.name for partner in build.rules(settings).registry.partners]


def said(settings: Settings, *words: str) -> tuple[int, str]:
    environ = {"TODOKE_NAMESPACE": settings.namespace, "TODOKE_REGISTRY": settings.registry.url}
    result = CliRunner().invoke(main, words, env=environ)
    return result.exit_code, result.output


def test_subjects_are_registered_on_deploy_and_what_runs_only_reads(settings: Settings) -> None:
    pairs = carried(settings.namespace, partners(settings))
    with pytest.raises(Misconfigured, match=r"ConsentChange.*todoke schemas register"):
        registry.codec(settings.registry, pairs)

    code, text = said(settings, "schemas", "register")

    client = SchemaRegistry(settings.registry)
    names = [subject(topic, record) for topic, record in pairs]
    held = {name: client.versions(name) for name in names}
    assert (code, text.strip()) == (0, f"{client}: {len(pairs)} subjects hold the current schemas, at {LEVEL}")
    assert {client.level(name) for name in names} == {LEVEL}
    assert {len(versions) for versions in held.values()} == {1}
    assert said(settings, "schemas", "register")[0] == 0
    assert {name: client.versions(name) for name in names} == held  # once more adds nothing
    assert said(settings, "schemas", "check")[0] == 0


def test_the_registrys_ids_stand_in_front_of_every_message(settings: Settings) -> None:
    deploy.register(settings, partners(settings))
    codec = registry.codec(settings.registry, carried(settings.namespace, partners(settings)))
    name = subject(f"{settings.namespace}consent-changes", "ConsentChange")
    (held,) = SchemaRegistry(settings.registry).versions(name).values()

    message = codec.encode(grant("taro"))

    assert HEADER.unpack_from(message) == (MAGIC, held.id)
    assert held.id < contracts.FIRST_ID
    assert codec.decode(Codec().encode(grant("taro")), ConsentChange).subject == "taro"  # of a time without a registry


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (BROKEN, "ConsentChange.mood: added without a default, against version 1 of the lock: give it a default"),
        (
            {
                **SCHEMA,
                "fields": [
                    {**each, "type": "int"} if each["name"] == "occurred_at" else each for each in SCHEMA["fields"]
                ],
            },
            "ConsentChange.occurred_at: type changed from long to int, against version 1 of the lock: " + RETYPED,
        ),
    ],
)
def test_check_names_record_field_and_fix(settings: Settings, tmp_path: Path, wrong: Any, line: str) -> None:
    deploy.register(settings, partners(settings))
    path = tmp_path / "ConsentChange.avsc"
    path.write_text(json.dumps(wrong))

    code, text = said(settings, "schemas", "check", str(path))

    name = subject(f"{settings.namespace}consent-changes", "ConsentChange")
    assert code == 1
    assert line in text.splitlines()
    assert line.replace("version 1 of the lock", f"version 1 of {name}") in text.splitlines()
    path.write_text(json.dumps(NEWER))
    assert said(settings, "schemas", "check", str(path))[0] == 0


def test_what_the_registry_alone_knows_counts_too_and_so_does_its_level(settings: Settings) -> None:
    client = SchemaRegistry(settings.registry)
    name = subject(f"{settings.namespace}consent-changes", "ConsentChange")
    fields = [{**each, "type": "string"} if each["name"] == "occurred_at" else each for each in SCHEMA["fields"]]
    client.register(name, {**SCHEMA, "fields": fields})
    client._ask("PUT", f"/config/{name}", {"compatibility": "NONE"})

    code, text = said(settings, "schemas", "check")

    assert code == 1
    assert f"{name}: its level is NONE, wanted {LEVEL}" in text
    assert f"ConsentChange.occurred_at: type changed from string to long, against version 1 of {name}" in text
    with pytest.raises(Misconfigured, match=r"ConsentChange\.occurred_at"):
        deploy.register(settings, partners(settings))


def test_the_registry_itself_refuses_what_breaks(settings: Settings) -> None:
    deploy.register(settings, partners(settings))

    with pytest.raises(Misconfigured, match=r"409 .*mood"):
        SchemaRegistry(settings.registry).register(
            subject(f"{settings.namespace}consent-changes", "ConsentChange"), BROKEN
        )


def test_a_registry_that_is_down_at_start_is_named_with_the_fix(settings: Settings) -> None:
    away = replace(settings, registry=Registry(url="http://127.0.0.1:9/apis/ccompat/v7"))

    for words in (["schemas", "check"], ["schemas", "register"], ["balance"]):
        code, text = said(away, *words)
        assert code == 1
        assert "schema registry at http://127.0.0.1:9" in text
        assert "start it, or correct registry.url" in text
    with pytest.raises(Retry):  # which ends a worker or a dispatcher, too, by the same sentence
        registry.codec(away.registry, [("consent-changes", "ConsentChange")])


@pytest.fixture
async def registered(
    apicurio: Apicurio, stack: Addresses, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Town]:
    """A town that uses the registry, in which an older version of one schema was registered first."""
    found = Town(stack, tmp_path_factory.mktemp("registered"))
    found.settings = replace(found.settings, registry=Registry(url=apicurio.url))
    client = SchemaRegistry(found.settings.registry)
    client.register(subject(f"{found.settings.namespace}consent-changes", "ConsentChange"), OLDER)
    deploy.register(found.settings, partners(found.settings))
    async with found:
        yield found


def written(schema: Any, schema_id: int, event: ConsentChange, **more: Any) -> bytes:
    """A message as another producer writes it, by a schema of its own."""
    out = BytesIO()
    out.write(HEADER.pack(MAGIC, schema_id))
    fields = {**asdict(event), "identifiers": [asdict(each) for each in event.identifiers], **more}
    fields["age"] = asdict(event.age) if event.age else None
    schemaless_writer(out, parse_schema(schema), fields)
    return out.getvalue()


async def test_an_older_and_a_newer_producer_write_at_once_and_both_are_read(registered: Town) -> None:
    town = registered
    client = SchemaRegistry(town.settings.registry)
    name = subject(town.made.topic("consent-changes"), "ConsentChange")
    newer = client.register(name, NEWER)  # after the worker has started
    older = client.register(name, OLDER)
    events = [grant(f"member-{number}") for number in range(30)]
    for number, event in enumerate(events):
        await town.publish(
            "consent-changes",
            [
                written(OLDER, older, event),
                written(NEWER, newer, event, mood="glad"),
                town.made.tools.codec.encode(event),
            ][number % 3],
            key=event.subject,
        )

    found = await town.settled()

    assert len({older, newer, *(each.id for each in client.versions(name).values())}) == 3
    assert found.exact
    assert found.outcomes == {"applied": 30}


async def test_while_the_registry_is_down_known_schemas_go_on_and_unknown_ones_wait(
    registered: Town, apicurio: Apicurio
) -> None:
    town = registered
    name = subject(town.made.topic("consent-changes"), "ConsentChange")
    newer = SchemaRegistry(town.settings.registry).register(name, NEWER)
    waiting, known = withdraw("taro"), [grant("taro"), *(grant(f"member-{number}") for number in range(10))]
    await asyncio.to_thread(apicurio.stop)
    try:
        await town.publish("consent-changes", written(NEWER, newer, waiting, mood="sad"), key="taro")
        await town.publish("consent-changes", *known)

        assert await town.until(
            lambda: all(town.made.tools.index.outcomes([each.event_id for each in known]))
        )  # the first of them stands behind the one that waits, on its partition
        assert town.made.tools.index.outcomes([waiting.event_id]) == [None]
        assert town.made.metrics.registry.get_sample_value("todoke_schema_waiting_messages") == 1
        assert "messages have to wait" in town.workers[0][1].waiting
        await town.stop_worker(town.workers[0])  # who comes next must find it
        town.start_worker()
        assert await town.until(lambda: "have to wait" in town.workers[0][1].waiting)
    finally:
        await asyncio.to_thread(apicurio.start)

    found = await town.settled()
    assert found.exact
    assert found.outcomes == {"applied": 12}
    assert town.made.tools.index.outcomes([waiting.event_id])[0] is not None
    assert town.made.metrics.registry.get_sample_value("todoke_schema_waiting_messages") == 0
    assert [letter.reason for letter in town.reader().letters()] == []
