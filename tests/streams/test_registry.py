"""The schema registry's client, against a small registry of our own that answers as Confluent's and Apicurio's do."""

import base64
import json
import shutil
import ssl
import threading
import urllib.error
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from todoke.schemas import contracts
from todoke.schemas.codec import RECORDS, Codec, UnknownSchema
from todoke.schemas.errors import Misconfigured, Refused, Retry
from todoke.schemas.events import ConsentChange
from todoke.schemas.evolution import incompatibilities
from todoke.streams import registry
from todoke.streams.registry import SchemaRegistry, codec, decode, renew, subject
from todoke.streams.settings import Registry

SCHEMA = contracts.current(contracts.folder())["ConsentChange"]
WIDER = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "mood", "type": "string", "default": ""}]}
BROKEN = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "mood", "type": "string"}]}
ANSWERS = {
    401: (Misconfigured, "set registry.user and registry.password"),
    403: (Misconfigured, "set registry.user and registry.password"),
    422: (Misconfigured, "correct registry.url"),
    302: (Misconfigured, "correct registry.url"),
    429: (Retry, "wait for it"),
    500: (Retry, "wait for it"),
    503: (Retry, "wait for it"),
}


class Fake:
    """A registry: ids by content, versions by subject, levels. `forced` answers everything instead, once set."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.subjects: dict[str, list[str]] = {}
        self.levels: dict[str, str] = {}
        self.seen: list[tuple[str, str, str]] = []
        self.forced: tuple[int, bytes] | None = None
        self.url = ""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        match method, [unquote(part) for part in path.strip("/").split("/")]:
            case "GET", ["config", name]:
                level = self.levels.get(name)
                return (
                    (200, {"compatibilityLevel": level}) if level else (404, {"error_code": 40408, "message": "none"})
                )
            case "PUT", ["config", name]:
                self.levels[name] = body["compatibility"]
                return 200, body
            case "POST", ["subjects", name]:
                text = body["schema"]
                if text not in self.subjects.get(name, []):
                    return 404, {"error_code": 40403, "message": "none"}
                return 200, {"subject": name, "version": 1, "id": self.texts.index(text) + 1, "schema": text}
            case "POST", ["subjects", name, "versions"]:
                return self._register(name, body["schema"])
            case "GET", ["subjects", name, "versions"]:
                held = self.subjects.get(name)
                return (200, list(range(1, len(held) + 1))) if held else (404, {"error_code": 40401, "message": "none"})
            case "GET", ["subjects", name, "versions", number]:
                text = self.subjects[name][int(number) - 1]
                return 200, {"subject": name, "version": number, "id": self.texts.index(text) + 1, "schema": text}
            case "GET", ["schemas", "ids", number]:
                index = int(number) - 1
                found = index < len(self.texts)
                return (
                    (200, {"schema": self.texts[index]}) if found else (404, {"error_code": 40403, "message": "none"})
                )
        return 404, {"title": "no such path"}

    def _register(self, name: str, text: str) -> tuple[int, dict[str, Any]]:
        before = self.subjects.setdefault(name, [])
        faults = [fault for each in before for fault in incompatibilities(json.loads(each), json.loads(text))]
        if faults and self.levels.get(name) == "BACKWARD_TRANSITIVE":
            return 409, {"error_code": 409, "message": faults[0]}
        before.append(text)
        if text not in self.texts:
            self.texts.append(text)
        return 200, {"id": self.texts.index(text) + 1}


def handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
            if fake.forced:
                code, data = fake.forced
            else:
                code, found = fake.answer(self.command, self.path, json.loads(body or b"{}"))
                data = json.dumps(found).encode()
            self.send_response(code)
            if code == 302:
                self.send_header("Location", fake.url)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = _any  # noqa: N815  # the names that http.server calls

        def log_message(self, *_: Any) -> None:
            """Nothing: the test's output is for the test."""

    return Handler


@pytest.fixture
def fake() -> Iterator[Fake]:
    found = Fake()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(found)) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


CHANGE = ConsentChange(event_id="e", occurred_at=1, purpose="profiling", decision="granted")


def written_with(found: Codec) -> int:
    return int.from_bytes(found.encode(CHANGE)[1:5], "big")


def test_without_a_registry_ids_come_from_the_lock() -> None:
    assert written_with(codec(Registry(), [])) == contracts.ids(contracts.lock(contracts.folder()))["ConsentChange"]


def test_every_subject_is_registered_once_and_held_to_its_level(fake: Fake) -> None:
    schemas = contracts.current(contracts.folder())
    carried = [("n.consent-changes", "ConsentChange"), ("n.directives.a", "Directive"), ("n.directives.b", "Directive")]
    client = SchemaRegistry(Registry(url=fake.url + "/"))

    first = [client.register(subject(topic, record), schemas[record]) for topic, record in carried]
    again = [client.register(subject(topic, record), schemas[record]) for topic, record in carried]

    names = [
        "n.consent-changes-todoke.ConsentChange",
        "n.directives.a-todoke.Directive",
        "n.directives.b-todoke.Directive",
    ]
    assert first == again == [1, 2, 2]
    assert written_with(codec(Registry(url=fake.url), carried)) == 1
    assert fake.levels == dict.fromkeys(names, "BACKWARD_TRANSITIVE")
    assert {name: len(versions) for name, versions in fake.subjects.items()} == dict.fromkeys(names, 1)
    assert len([path for method, path, _ in fake.seen if method == "PUT"]) == len(names)


def test_of_our_own_records_a_version_that_the_history_lacks_stays_unknown(fake: Fake) -> None:
    schemas, client = contracts.current(contracts.folder()), SchemaRegistry(Registry(url=fake.url))
    ours, theirs = schemas["Directive"], {**schemas["Directive"], "fields": [*schemas["Directive"]["fields"]]}
    theirs["fields"].append({"name": "mood", "type": "string", "default": ""})
    carried = [("consent-changes", "ConsentChange"), ("directives.a", "Directive")]
    for (topic, record), schema in zip(carried, [SCHEMA, ours], strict=True):
        client.register(subject(topic, record), schema)
    wider = client.register(subject("consent-changes", "ConsentChange"), WIDER)
    later = client.register(subject("directives.a", "Directive"), theirs)

    found = codec(Registry(url=fake.url), carried)

    assert wider in found._writers
    assert later not in found._writers


def test_a_silent_registry_is_not_asked_for_every_message(fake: Fake) -> None:
    client = SchemaRegistry(Registry(url=fake.url))
    fake.forced = (503, b"")

    for _ in range(3):
        with pytest.raises(Retry):
            client.fetch(1)

    assert len(fake.seen) == 1


def test_a_level_that_somebody_lowered_is_set_again(fake: Fake) -> None:
    fake.levels["t-todoke.ConsentChange"] = "NONE"

    SchemaRegistry(Registry(url=fake.url)).register(subject("t", "ConsentChange"), SCHEMA)

    assert fake.levels["t-todoke.ConsentChange"] == "BACKWARD_TRANSITIVE"


def test_a_new_version_is_registered_and_one_that_breaks_is_refused(fake: Fake) -> None:
    client = SchemaRegistry(Registry(url=fake.url))
    first = client.register("s", SCHEMA)

    second = client.register("s", WIDER)

    assert (first, second) == (1, 2)
    with pytest.raises(
        Misconfigured, match=r"409 .*mood: added without a default.*give new fields of the schema a default"
    ):
        client.register("s", BROKEN)


def test_an_unknown_schema_is_fetched_learnt_and_read(fake: Fake) -> None:
    settings = Registry(url=fake.url)
    client = SchemaRegistry(settings)
    schema_id = client.register("s", SCHEMA)
    change = ConsentChange(event_id="e", occurred_at=1, purpose="profiling", decision="granted")
    message = Codec({"ConsentChange": schema_id}).encode(change)
    coder = Codec()
    with pytest.raises(UnknownSchema):
        decode(coder, None, message, ConsentChange)
    asked = len(fake.seen)

    read = [decode(coder, client, message, ConsentChange) for _ in range(3)]

    assert read == [change] * 3
    assert len(fake.seen) == asked + 1


def test_a_message_of_an_unknown_schema_waits_while_the_registry_is_down() -> None:
    change = ConsentChange(event_id="e", occurred_at=1, purpose="profiling", decision="granted")
    message = Codec({"ConsentChange": 7}).encode(change)

    with pytest.raises(Retry):
        decode(Codec(), SchemaRegistry(Registry(url="http://127.0.0.1:9")), message, ConsentChange)


def test_an_id_that_is_nowhere_is_refused_from_memory(fake: Fake) -> None:
    client = SchemaRegistry(Registry(url=fake.url))

    for _ in range(3):
        with pytest.raises(Refused, match="unknown-schema"):
            client.fetch(1)

    assert len(fake.seen) == 1


def test_an_id_that_was_nowhere_is_asked_for_again_later(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ASK_AGAIN_S", 0.0)
    client = SchemaRegistry(Registry(url=fake.url))
    with pytest.raises(Refused):
        client.fetch(1)

    client.register("s", SCHEMA)

    assert client.fetch(1) == SCHEMA


def test_ids_that_are_nowhere_are_not_remembered_without_bound(fake: Fake) -> None:
    client = SchemaRegistry(Registry(url=fake.url))
    client._absent = dict.fromkeys(range(10_000, 20_000), 0.0)

    with pytest.raises(Refused):
        client.fetch(5)

    assert set(client._absent) == {5}


@pytest.mark.parametrize(
    "answer",
    [
        {"schema": "message M {}", "schemaType": "PROTOBUF"},
        {"schema": json.dumps(SCHEMA), "references": [{"name": "x", "subject": "x", "version": 1}]},
        {"schema": "{"},
    ],
)
def test_what_is_no_whole_avro_schema_is_none_to_learn(fake: Fake, answer: dict[str, Any]) -> None:
    fake.forced = (200, json.dumps(answer).encode())

    assert SchemaRegistry(Registry(url=fake.url)).fetch(1) is None


@pytest.mark.parametrize("code", ANSWERS)
def test_every_refusal_names_the_address_and_the_fix(fake: Fake, code: int) -> None:
    fake.forced = (code, b'{"error_code": 1, "message": "no"}')
    kind, fix = ANSWERS[code]

    with pytest.raises(kind, match=fix) as error:
        SchemaRegistry(Registry(url=fake.url, user="u", password="hidden")).fetch(1)

    assert fake.url in str(error.value)
    assert "hidden" not in str(error.value)
    assert len(fake.seen) == 1


def test_a_not_found_that_is_not_the_registrys_own_refuses_no_message(fake: Fake) -> None:
    fake.forced = (404, b"<html>no such host</html>")

    with pytest.raises(Misconfigured, match=r"404 .*correct registry\.url"):
        SchemaRegistry(Registry(url=fake.url)).fetch(1)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'{"id": "one"}', b""])
def test_something_else_that_answers_is_found_out(fake: Fake, body: bytes) -> None:
    fake.forced = (200, body)

    with pytest.raises(Misconfigured, match=r"no schema registry: correct registry\.url"):
        SchemaRegistry(Registry(url=fake.url)).fetch(1)


@pytest.mark.parametrize("forced", [(200, b"{}"), (404, b'{"error_code": 1}')])
def test_a_registration_without_an_id_is_found_out(fake: Fake, forced: tuple[int, bytes]) -> None:
    fake.forced = forced

    with pytest.raises(Misconfigured, match=r"gave no id to s: correct registry\.url"):
        SchemaRegistry(Registry(url=fake.url)).register("s", SCHEMA)


def test_user_and_password_are_sent(fake: Fake) -> None:
    SchemaRegistry(Registry(url=fake.url, user="u", password="päss")).register("s", SCHEMA)

    assert {each for _, _, each in fake.seen} == {"Basic " + base64.b64encode("u:päss".encode()).decode()}


def test_a_registry_that_is_down_is_asked_again_and_named() -> None:
    with pytest.raises(Retry, match=r"http://127\.0\.0\.1:9: .*start it, or correct registry\.url"):
        codec(Registry(url="http://127.0.0.1:9"), [("t", "ConsentChange")])


@pytest.mark.parametrize("url", ["127.0.0.1:8081", "file:///etc/passwd", "http://", "http://u:hidden@127.0.0.1"])
def test_an_address_that_is_none_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"registry\.url: ") as error:
        SchemaRegistry(Registry(url=url))

    assert "hidden" not in str(error.value)


def test_a_certificate_that_is_not_trusted_is_a_fault_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SchemaRegistry(Registry(url="https://127.0.0.1"))
    monkeypatch.setattr(client._opener, "open", _raising(urllib.error.URLError(ssl.SSLError("self-signed"))))

    with pytest.raises(Misconfigured, match="SSL_CERT_FILE"):
        client.fetch(1)


def _raising(error: Exception) -> Callable[..., BytesIO]:
    def raising(*_: Any, **__: Any) -> BytesIO:
        raise error

    return raising


def test_a_changed_contract_is_locked_with_its_history(tmp_path: Path) -> None:
    source = Path(str(contracts.folder()))
    shutil.copytree(source / "avro", tmp_path / "avro")
    shutil.copy(source / "ids.lock.json", tmp_path)
    (tmp_path / "avro" / "ConsentChange.avsc").write_text(json.dumps(WIDER))

    written = renew(tmp_path)

    assert written == ["avro/history/ConsentChange.2.avsc", "ids.lock.json"]
    assert renew(tmp_path) == []
    assert contracts.history(tmp_path)["ConsentChange"][2]["fields"][-1]["name"] == "mood"
    assert set(contracts.lock(tmp_path)) == set(RECORDS)
