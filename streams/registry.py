"""The schema registry: ids for what we write, schemas of what others wrote. Any that speaks Confluent's REST subset will do.

Sync, and asked at boot and at the first message of an unknown schema only. Not confluent-kafka's own client: it brings
authlib and a second HTTP client for six requests. Redirects are not followed, since they would carry the password along.
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

from .settings import Registry

LEVEL = "BACKWARD_TRANSITIVE"
MEDIA = "application/vnd.schemaregistry.v1+json"
TIMEOUT_S = 10.0
ASK_AGAIN_S = 30.0

T = TypeVar("T", bound=Struct)


class Answer(Struct, frozen=True, rename="camel"):
    """What a registry answers, to all requests together."""

    id: int = 0
    schema: str = ""
    schema_type: str = "AVRO"
    references: tuple[Any, ...] | None = None
    compatibility_level: str = ""


def subject(topic: str, record: str) -> str:
    """The subject of a record on a topic: strategy TopicRecordName."""
    return f"{topic}-todoke.{record}"


def resolve(settings: Registry, carried: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The ids to write with, by record name, after every (topic, record) of `carried` has its subject and its level.

    Without a URL, the ids of the lock. Raises `Retry` while the registry doesn't answer, `Misconfigured` when it
    refuses: a schema that can't read an earlier version, a wrong address, a wrong password.
    """
    if not settings.url:
        return contracts.ids(contracts.lock(contracts.folder()))
    client = SchemaRegistry(settings)
    schemas = contracts.current(contracts.folder())
    ids: dict[str, int] = {}
    for topic, record in carried:  # one schema, one id: registries give it by content
        ids.setdefault(record, client.register(subject(topic, record), schemas[record]))
    return ids


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

    def __str__(self) -> str:
        return f"schema registry at {self.url}"

    def register(self, name: str, schema: contracts.Schema) -> int:
        """The id of `schema` under subject `name`, registered if it isn't yet, at compatibility `LEVEL`."""
        place = quote(name, safe="")
        level = self._ask("GET", f"/config/{place}")
        if level is None or level.compatibility_level != LEVEL:
            self._ask("PUT", f"/config/{place}", {"compatibility": LEVEL})
        body = {"schema": json.dumps(schema, ensure_ascii=False), "schemaType": "AVRO"}
        found = self._ask("POST", f"/subjects/{place}", body) or self._ask("POST", f"/subjects/{place}/versions", body)
        if found is None or not found.id:
            raise Misconfigured(f"{self}: gave no id to {name}: correct registry.url")
        return found.id

    def fetch(self, schema_id: int) -> Any:
        """The schema of an id, to be learnt by the codec; None when it is not Avro, or refers to other schemas.

        Raises `Refused` when the registry has no such id, from memory for `ASK_AGAIN_S` since many messages will have
        it, and `Retry` when it doesn't answer: then nothing is known, and the message has to wait.
        """
        if time.monotonic() < self._absent.get(schema_id, 0.0):
            raise _absent()
        found = self._ask("GET", f"/schemas/ids/{schema_id}")
        if found is None:
            if len(self._absent) > 1000:
                self._absent.clear()
            self._absent[schema_id] = time.monotonic() + ASK_AGAIN_S
            raise _absent()
        if found.schema_type != "AVRO" or found.references:
            return None
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(found.schema)
        return None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer | None:
        """The answer; None where the registry itself says that there is no such thing."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self._headers, method=method)  # noqa: S310  # see __init__
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return msgspec.json.decode(answer.read(), type=Answer)
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


def _absent() -> Refused:
    return Refused("unknown-schema", "schema id", "Register the schema before writing with it.")
