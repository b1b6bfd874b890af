"""Files of suppressions in a partner's SFTP or S3 store, and its acknowledgements: see docs/partners/file_drop.md.

The contract is ours; the profile of LiveRamp is from Segment's connector, segmentio/action-destinations
`liveramp-audiences/operations.ts` at 04ea5b4, which cites LiveRamp's "Formatting File Data".
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from todoke.schemas.errors import Rejected, Split
from todoke.schemas.identity import KINDS, IdentifierKind
from todoke.schemas.partners import Partner
from todoke.schemas.receipts import Evidence, Verb
from todoke.sinks.base import File, FileRequest, FileResponse, Item, Outcome, Plain, Polls, S3Login, SftpLogin
from todoke.sinks.events import Form, Named, event, iso, named
from todoke.sinks.maker import Maker
from todoke.sinks.secrets import ENVIRONMENT, Secret
from todoke.sinks.settings import read, sound, split, unsaid, url_problems

Format = Literal["csv", "jsonl", "liveramp"]

DAY_MS = 86_400_000
MOST_FILES = 100
COLUMNS = ("request_id", "verb", "effect", "account", "scope", "kind", "identifier", "at", "deadline", "reasons")
SUFFIX: Mapping[Format, str] = {"csv": "csv", "jsonl": "jsonl", "liveramp": "csv"}
SFTP = ("private_key", "password")
S3 = ("access_key_id", "secret_access_key")

_FOLDER = re.compile(r"(?:/?[\w.=-]+(?:/[\w.=-]+)*)?/?", re.ASCII)
_CODE = re.compile(r"[a-z0-9-]{1,40}")


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a file partner."""

    url: Annotated[str, Meta(description="sftp://host:port, or the https address of an S3 bucket")]
    folder: Annotated[str, Meta(description="Where files are put: a path at the store")] = ""
    acknowledgements: Annotated[
        str, Meta(description="Where the partner puts its acknowledgements: a path; empty where it writes none")
    ] = ""
    format: Format = "csv"
    identifier_form: Annotated[
        Form, Meta(description="sha256: hex SHA-256 of the canonical form; plain: the canonical form")
    ] = "sha256"
    user: Annotated[str, Meta(description="SFTP: who we are there")] = ""
    host_keys: Annotated[
        tuple[str, ...], Meta(description="SFTP: the server's public keys, lines as in known_hosts without the name")
    ] = ()
    region: Annotated[str, Meta(description="S3: the region that signatures name")] = ""
    poll_every_s: Annotated[int, Meta(ge=1, description="How long between looks for an acknowledgement")] = 900
    ends_after_days: Annotated[int, Meta(ge=1, description="After how long a person must look")] = 7
    insecure_http: Annotated[bool, Meta(description="S3: allow http to another machine, for rehearsals only")] = False


SECRETS: dict[str, tuple[str, bool]] = {
    "private_key": ("SFTP: our private key, as OpenSSH writes it, without a passphrase", False),
    "password": ("SFTP: a password, where the server takes no keys", False),
    "access_key_id": ("S3: the access key's id", False),
    "secret_access_key": ("S3: the access key", False),
    "session_token": ("S3: the token that belongs to temporary keys", False),
}
ACCEPTED_KINDS: frozenset[IdentifierKind] = frozenset(KINDS)
EFFECTS: Mapping[Verb, str] = {
    "grant": "granted",
    "withdraw": "withdrawn",
    "suspend": "suspended",
    "delete": "deleted",
}


class FileDrop(Plain):
    """One store."""

    effects = EFFECTS

    def __init__(self, config: Config, login: SftpLogin | S3Login, most_bytes: int) -> None:
        self._config = config
        self._login = login
        self._most_bytes = most_bytes
        self.reaches = reaches(config)
        self.probe = Look(self)
        self.polls: Polls | None = Acknowledgements(self, config) if config.acknowledgements else None

    def group(self, item: Item) -> str:
        """A file has one effect; in LiveRamp's profile, which can't say it, one account too. Who has no row stands alone."""
        account = item.account if self._config.format == "liveramp" else ""
        return f"{EFFECTS[item.verb]}|{account}" + ("" if self._rows([item]) else f"|{item.request_id}")

    def weight(self, item: Item) -> int:
        return max(len(item.identifiers), 1)

    def request(self, items: Sequence[Item], at: int) -> FileRequest:
        body = self._body(items)
        if len(body) > self._most_bytes and len(items) > 1:
            raise Split("too-large", perhaps=False)
        name = self._name(items, body)
        files = [File(path=self.path(name), body=body)]
        if self._config.format != "liveramp":  # which would take the checksum for data
            line = f"{sha256(body).hexdigest()}  {name}\n"
            files.append(File(path=self.path(f"{name}.sha256"), body=line.encode()))
        return self.files(at, files)

    def verdict(self, items: Sequence[Item], response: FileResponse) -> Sequence[Outcome]:
        """A name says what is in its file, so what else stands there was ours once: it may have been read."""
        if response.taken:
            return [Outcome(grade=Evidence.sent, reason="name-taken") for _ in items]
        name = self._name(items, self._body(items))
        rest = [f"#{each.request_id}" if self.polls else "" for each in items]
        return [Outcome(grade=Evidence.accepted, reference=name + each) for each in rest]

    def path(self, name: str) -> str:
        """The path of one of our files."""
        return _within(self._config.folder, name)

    def files(self, at: int, files: Sequence[File] = (), wanted: Sequence[str] = ()) -> FileRequest:
        """A request to this store."""
        return FileRequest(url=self._config.url, login=self._login, at=at, files=tuple(files), wanted=tuple(wanted))

    def _name(self, items: Sequence[Item], body: bytes) -> str:
        """The same for the same obligations and the same bytes, and for nothing else.

        Bytes alone could be guessed from the name where a file has one row, so the ids of the requests go in first, which
        nobody outside can know.
        """
        token = sha256("|".join(each.request_id for each in items).encode() + sha256(body).digest()).hexdigest()[:24]
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(each.at for each in items))
        suffix = SUFFIX[self._config.format]
        return f"todoke-{EFFECTS[items[0].verb]}-{moment:%Y%m%dT%H%M%SZ}-{token}.{suffix}"

    def _rows(self, items: Sequence[Item]) -> list[tuple[Item, Named]]:
        """Every row with its item; none when an item has no row: within others it would be taken for told."""
        liveramp = self._config.format == "liveramp"
        found = []
        for item in items:
            told = named(item.identifiers, "sha256" if liveramp else self._config.identifier_form)
            own = [(item, each) for each in told if each.kind == "email" or not liveramp]
            if not own:
                return []
            found += own
        return found

    def _body(self, items: Sequence[Item]) -> bytes:
        """The file. Raises `Rejected` when an item has no row."""
        rows = self._rows(items)
        if not rows:
            raise Rejected("no-usable-identifier")
        match self._config.format:
            case "jsonl":
                form = self._config.identifier_form
                lines = [{"request_id": each.request_id, **event(each, EFFECTS[each.verb], form)} for each in items]
                return b"".join(msgspec.json.encode(each) + b"\n" for each in lines)
            case "liveramp":
                return _liveramp(each.value for _, each in rows)
        return _csv(rows)


class Acknowledgements:
    """`<name>.ack` of each file: see the page for its form."""

    most = MOST_FILES

    def __init__(self, drop: FileDrop, config: Config) -> None:
        self._drop = drop
        self._folder = config.acknowledgements
        self.first_ms = self.every_ms = config.poll_every_s * 1000
        self.ends_ms = config.ends_after_days * DAY_MS

    def ask(self, references: Sequence[str], at: int) -> FileRequest:
        names = dict.fromkeys(each.partition("#")[0] for each in references)
        return self._drop.files(at, wanted=[path for name in names for path in self._paths(name)])

    def read(self, references: Sequence[str], response: FileResponse) -> Sequence[Outcome | None]:
        return [self._read(each, response.found) for each in references]

    def _read(self, reference: str, found: Mapping[str, bytes]) -> Outcome | None:
        """Under way until there is a whole acknowledgement, and our checksum beside the file to hold it against."""
        name, _, request_id = reference.partition("#")
        path, checksum = self._paths(name)
        said, ours = _object(found.get(path, b"")), found.get(checksum, b"")[:64].decode("ascii", "replace")
        if said is None or not ours or said.get("status") not in {"processed", "failed"}:
            return None
        if (said.get("file"), said.get("sha256")) != (name, ours):
            return Outcome(grade=Evidence.sent, reference=reference, reason="acknowledges-something-else")
        if said["status"] == "failed":
            return Outcome(grade=Evidence.sent, reference=reference, reason="file-failed")
        reason = _rejection(said.get("rejected"), request_id)
        if reason:
            return Outcome(grade=Evidence.sent, reference=reference, reason=reason)
        return Outcome(grade=Evidence.processed, reference=reference)

    def _paths(self, name: str) -> tuple[str, str]:
        return _within(self._folder, f"{name}.ack"), self._drop.path(f"{name}.sha256")


class Look:
    """Reads a name that nobody gives: shows that the store lets us in, and that the folder is there or empty."""

    def __init__(self, drop: FileDrop) -> None:
        self._drop = drop

    def ask(self, at: int) -> FileRequest:
        return self._drop.files(at, wanted=[self._drop.path("todoke-probe")])

    def read(self, response: FileResponse) -> None:
        """Whatever was found there: we were let in."""


def reaches(config: Config) -> Evidence:
    return Evidence.processed if config.acknowledgements else Evidence.accepted


def build(partner: Partner, secrets: Mapping[str, Secret]) -> FileDrop:
    config = read(Config, partner)
    login: SftpLogin | S3Login
    if config.url.startswith("sftp:"):
        login = SftpLogin(
            user=config.user,
            host_keys=config.host_keys,
            private_key=secrets.get("private_key"),
            password=secrets.get("password"),
        )
    else:
        login = S3Login(
            region=config.region,
            access_key_id=secrets["access_key_id"],
            secret_access_key=secrets["secret_access_key"],
            session_token=secrets.get("session_token"),
        )
    return FileDrop(config, login, partner.limits.bytes)


def problems(config: Config, partner: Partner) -> list[str]:
    sftp = config.url.startswith("sftp:") or (config.url.startswith(ENVIRONMENT) and bool(config.user))
    found = _sftp_problems(config, partner) if sftp else _s3_problems(config, partner)
    for key, value in (("folder", config.folder), ("acknowledgements", config.acknowledgements)):
        if not sound(_FOLDER, value) or ".." in value.split("/"):
            found.append(f"settings.{key}: not a path of letters, digits, . _ = -; write one as in in/suppressions")
    if config.format == "liveramp":
        found += unsaid(partner, {"email"}, "format = liveramp")
        if config.acknowledgements:
            found.append("settings.acknowledgements: LiveRamp writes none; drop it")
        if config.identifier_form == "plain":
            found.append("settings.identifier_form: LiveRamp's profile is hashed; drop it")
    return found


def _sftp_problems(config: Config, partner: Partner) -> list[str]:
    parts, found = split(config.url), []
    bare = parts and parts.hostname and not (parts.path.strip("/") or parts.username or parts.password)
    if not bare and not config.url.startswith(ENVIRONMENT):
        found.append("settings.url: not an address of a server; give sftp://host:port alone, paths in folder")
    if not config.user:
        found.append("settings.user: missing; say who we are at the server")
    if not config.host_keys:
        found.append("settings.host_keys: missing; give the server's public keys, which ssh-keyscan prints")
    if not set(SFTP) & set(partner.secrets):
        found.append("secrets.private_key: missing; give env:NAME or file:PATH")
    given = [name for name in partner.secrets if name not in SFTP and name in SECRETS]
    return found + [f"secrets.{name}: of no use over SFTP; drop it" for name in given]


def _s3_problems(config: Config, partner: Partner) -> list[str]:
    found = url_problems("url", config.url, insecure=config.insecure_http)
    parts = split(config.url)
    if parts and parts.query:
        found.append("settings.url: no query in an address of a bucket; drop it")
    if not config.region:
        found.append("settings.region: missing; signatures name one, as in ap-northeast-1")
    found += [f"secrets.{name}: missing; give env:NAME or file:PATH" for name in S3 if name not in partner.secrets]
    return found + [f"secrets.{name}: of no use at S3; drop it" for name in SFTP if name in partner.secrets]


def _csv(rows: Sequence[tuple[Item, Named]]) -> bytes:
    """RFC 4180, in UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for item, told in rows:
        about = (item.request_id, item.verb, EFFECTS[item.verb], item.account, item.scope, told.kind, told.value)
        writer.writerow((*about, iso(item.at), iso(item.deadline_at), " ".join(item.reasons)))
    return text.getvalue().encode()


def _liveramp(values: Iterable[str]) -> bytes:
    """A heading without quotes, values with them, no line end after the last; one row for each address."""
    return "\n".join(["audience_key,email", *(f'"{each}","{each}"' for each in dict.fromkeys(values))]).encode()


def _within(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if folder else name


def _object(body: bytes) -> dict[str, Any] | None:
    """Half a file is none: it is read again later."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return decoded if isinstance(decoded, dict) else None


def _rejection(rejected: Any, request_id: str) -> str:
    """Why the partner left out a row of the request, as a code; empty when it did not. Its words are not read."""
    for each in rejected if isinstance(rejected, list) else []:
        if isinstance(each, dict) and each.get("request_id") == request_id:
            reason = str(each.get("reason", ""))
            return f"row-{reason}" if _CODE.fullmatch(reason) else "row-rejected"
    return ""


MAKER = Maker(
    config=Config,
    secrets=SECRETS,
    kinds=ACCEPTED_KINDS,
    effects=EFFECTS,
    reaches=reaches,
    addresses=lambda config: (config.url,),
    problems=problems,
    make=build,
)
