"""The schema registry: ids for what we write, schemas of what others wrote. Any that speaks Confluent's REST subset will do.

Subjects and their level are written on deploy (`deploy`); a process that runs only reads, so it needs no right to
register, and can't put a schema there that nobody has checked. It asks at boot, and at the first message of a schema
that it doesn't know. Not confluent-kafka's own client: it brings
authlib and a second HTTP client for eight requests. Redirects are not followed, since they would carry the password along.
"""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from todoke.schemas import contracts
from todoke.schemas.codec import Codec, UnknownSchema
from todoke.schemas.errors import Misconfigured, Refused, Retry
from todoke.schemas.events import INTAKE

from .settings import Registry

LEVEL = "BACKWARD_TRANSITIVE"
MEDIA = "application/vnd.schemaregistry.v1+json"
TIMEOUT_S = 10.0
ASK_AGAIN_S = 30.0
FETCH_S = 2.0
BACK_OFF_S = 5.0

EVENTS = frozenset(kind.__name__ for kind in INTAKE.values())

T = TypeVar("T", bound=Struct)


class Answer(Struct, frozen=True, rename="camel"):
    """What a registry answers, to all requests together."""

    id: int = 0
    schema: str = ""
    schema_type: str = "AVRO"
    references: tuple[Any, ...] | None = None
    compatibility_level: str = ""


class Verdict(Struct, frozen=True):
    """A registry's own word on whether it would take a schema."""

    is_compatible: bool


class Version(Struct, frozen=True):
    """One version of a subject: its id on the wire, and its schema, None where it is no whole Avro schema."""

    id: int
    schema: Any


def subject(topic: str, record: str) -> str:
    """The subject of a record on a topic: strategy TopicRecordName."""
    return f"{topic}-todoke.{record}"


def codec(settings: Registry, carried: Iterable[tuple[str, str]]) -> Codec:
    """A codec that writes with the registry's ids of every (topic, record) of `carried`, or with the lock's without a URL.

    It reads what earlier versions wrote, and on intake topics whatever the registry holds. Of our own records a version
    that the history lacks stays unknown: a process newer than this one wrote it, and joining what is only half understood
    would lose the other half. Raises `Retry` while the registry doesn't answer, `Misconfigured` when it refuses or when
    nothing was registered yet.
    """
    if not settings.url:
        return Codec()
    client, where = SchemaRegistry(settings), contracts.folder()
    wanted = {name: contracts.digest(schema) for name, schema in contracts.current(where).items()}
    past = {name: {each.sha256 for each in versions.values()} for name, versions in contracts.lock(where).items()}
    ids: dict[str, int] = {}
    others: dict[int, Any] = {}
    for topic, record in carried:
        for each in client.versions(subject(topic, record)).values():
            held = "" if each.schema is None else contracts.digest(each.schema)
            if held == wanted[record]:
                ids.setdefault(record, each.id)  # one schema, one id: registries give it by content
            if held in past[record] or record in EVENTS:
                others[each.id] = each.schema
        if record not in ids:
            raise Misconfigured(
                f"{client}: {subject(topic, record)} has no version like schemas/avro/{record}.avsc: "
                "run `todoke schemas register`"
            )
    found = Codec(ids)
    for schema_id, schema in others.items():
        found.learn(schema_id, schema)
    return found


def decode(codec: Codec, client: "SchemaRegistry | None", data: bytes, *expected: type[T]) -> T:
    """As `Codec.decode`, after fetching the writer's schema where it is new. Blocks then: call from a thread.

    Without a client an unknown schema is refused. Raises `Retry` as `fetch` does: the message has to wait, since a
    producer with a newer schema may have written it, and refusing it would lose it.
    """
    try:
        return codec.decode(data, *expected)
    except UnknownSchema as unknown:
        if client is None:
            raise
        codec.learn(unknown.schema_id, client.fetch(unknown.schema_id))
    return codec.decode(data, *expected)


def renew(folder: Path) -> list[str]:
    """Write history and lock anew after a schema was changed in the `schemas` folder given; says which files.

    Raises `Misconfigured` when the change would break the reading of old messages.
    """
    written = contracts.renewal(folder)
    for path, text in written.items():
        folder.joinpath(path).write_bytes(text)
    return list(written)


class SchemaRegistry:
    """One registry. Every method blocks for up to `TIMEOUT_S`; call from a thread, never from the event loop."""

    def __init__(self, settings: Registry) -> None:
        """Raises `Misconfigured` when the URL isn't one, or holds a password that every message would show."""
        parts = urlsplit(settings.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misconfigured("registry.url: expected http://host:port or https://host:port: correct it")
        if parts.username or parts.password:
            raise Misconfigured("registry.url: holds a password: put it in registry.user and registry.password")
        self.url = settings.url.rstrip("/")
        self._headers = {"Accept": MEDIA, "Content-Type": MEDIA}
        if settings.user:
            both = f"{settings.user}:{settings.password}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(both).decode()}"
        self._opener = urllib.request.build_opener(_Stay())
        self._absent: dict[int, float] = {}
        self._silent_until = 0.0

    def __str__(self) -> str:
        return f"schema registry at {self.url}"

    def register(self, name: str, schema: contracts.Schema) -> int:
        """The id of `schema` under subject `name`, registered if it isn't yet, at compatibility `LEVEL`."""
        place = quote(name, safe="")
        if self.level(name) != LEVEL:
            self._ask("PUT", f"/config/{place}", {"compatibility": LEVEL})
        body = _body(schema)
        found = self._ask("POST", f"/subjects/{place}", body) or self._ask("POST", f"/subjects/{place}/versions", body)
        if found is None or not found.id:
            raise Misconfigured(f"{self}: gave no id to {name}: correct registry.url")
        return int(found.id)

    def level(self, name: str) -> str:
        """The compatibility of a subject; empty where none is set."""
        found = self._ask("GET", f"/config/{quote(name, safe='')}")
        return found.compatibility_level if found else ""

    def versions(self, name: str) -> dict[int, Version]:
        """What a subject holds, by number of version; empty where there is no such subject."""
        place = f"/subjects/{quote(name, safe='')}/versions"
        found = {}
        for number in self._ask("GET", place, kind=tuple[int, ...]) or ():
            answer = self._ask("GET", f"{place}/{number}")
            if answer is not None:  # removed between the two questions
                found[number] = Version(answer.id, _avro(answer))
        return found

    def allows(self, name: str, schema: contracts.Schema) -> bool:
        """Whether the registry would take `schema` under a subject that there is, by the level that it has now."""
        found = self._ask(
            "POST", f"/compatibility/subjects/{quote(name, safe='')}/versions", _body(schema), kind=Verdict
        )
        return found is None or found.is_compatible

    def fetch(self, schema_id: int) -> Any:
        """The schema of an id, to be learnt by the codec; None when it is not Avro, or refers to other schemas.

        Raises `Refused` when the registry has no such id, from memory for `ASK_AGAIN_S` since many messages will have
        it, and `Retry` when it doesn't answer: then nothing is known, and the message has to wait. Silence is remembered
        for `BACK_OFF_S`, so that messages whose schema is known don't stand behind one question after the other.
        """
        if time.monotonic() < self._absent.get(schema_id, 0.0):
            raise _absent()
        if time.monotonic() < self._silent_until:
            raise Retry(f"{self}: no answer a moment ago: start it, or correct registry.url", perhaps=False)
        try:
            found = self._ask("GET", f"/schemas/ids/{schema_id}", timeout_s=FETCH_S)
        except Retry:
            self._silent_until = time.monotonic() + BACK_OFF_S
            raise
        if found is None:
            if len(self._absent) > 1000:
                self._absent.clear()
            self._absent[schema_id] = time.monotonic() + ASK_AGAIN_S
            raise _absent()
        return _avro(found)

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        kind: type[Any] = Answer,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """The answer as a `kind`; None where the registry itself says that there is no such thing."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self._headers, method=method)  # noqa: S310  # see __init__
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return msgspec.json.decode(answer.read(), type=kind)
        except urllib.error.HTTPError as error:
            with error:
                fault = self._fault(error, path)
            if fault is not None:
                raise fault from None
            return None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                raise Misconfigured(
                    f"{self}: {reason}: have SSL_CERT_FILE name its CA, or correct registry.url"
                ) from None
            raise Retry(f"{self}: {reason}: start it, or correct registry.url", perhaps=False) from None
        except msgspec.DecodeError:
            raise Misconfigured(f"{self}: what answers is no schema registry: correct registry.url") from None

    def _fault(self, error: urllib.error.HTTPError, path: str) -> Misconfigured | Retry | None:
        """None for the registry's own "not found". A proxy's is another: it must not turn messages into dead letters."""
        what, said = f"{self}: {error.code} for {path}", error.read(2000).decode(errors="replace")
        if error.code == HTTPStatus.NOT_FOUND and '"error_code"' in said:
            return None
        if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Misconfigured(f"{what}: set registry.user and registry.password to somebody who may register")
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code == HTTPStatus.TOO_MANY_REQUESTS:
            return Retry(f"{what}: wait for it, or mend it", perhaps=False)
        if error.code == HTTPStatus.CONFLICT:
            return Misconfigured(f"{what}: {said}: give new fields of the schema a default, or undo the change")
        return Misconfigured(f"{what}: {said}: correct registry.url")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirect ends as the error that it is."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _body(schema: contracts.Schema) -> dict[str, Any]:
    return {"schema": json.dumps(schema, ensure_ascii=False), "schemaType": "AVRO"}


def _avro(answer: Answer) -> Any:
    """The schema; None when it is not Avro, or not whole."""
    if answer.schema_type != "AVRO" or answer.references:
        return None
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(answer.schema)
    return None


def _absent() -> Refused:
    return Refused("unknown-schema", "schema id", "Register the schema before writing with it.")
