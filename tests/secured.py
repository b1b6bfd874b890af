"""Servers as they are in earnest: Kafka with TLS, SCRAM and an authorizer, Valkey with a password behind TLS."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from msgspec import Struct

from todoke.streams import acls
from todoke.streams.embedded import jars, kafka, ports, process, valkey
from todoke.streams.embedded.parts import Place, silent
from todoke.streams.embedded.process import Identity

START_S = 90.0
PASSWORDS = {name: f"{name}-Pa55-zzz" for name in ("broker", *acls.ACCESS)}
VIEW_PASSWORD = "view-Pa55-zzz"
MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Secured(Struct, frozen=True):
    """Where they are, and by whose word to trust them."""

    folder: Path
    bootstrap: str
    redis_port: int
    ca: Path
    other_ca: Path

    def client(self, role: str, password: str = "", ca: Path | None = None) -> dict[str, str | int | bool]:
        """`kafka.client` of a role."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": role,
            "sasl.password": password or PASSWORDS[role],
            "ssl.ca.location": str(ca or self.ca),
        }

    def redis_url(self, password: str = VIEW_PASSWORD, ca: Path | None = None) -> str:
        """`redis.url`."""
        return f"rediss://todoke:{password}@127.0.0.1:{self.redis_port}/0?ssl_ca_certs={ca or self.ca}"

    def admin(self) -> AdminClient:
        """Somebody who may do anything."""
        return AdminClient({"bootstrap.servers": self.bootstrap, **self.client("broker")})

    def allow(self, namespace: str, partners: list[str]) -> None:
        """Give every role what the table says, and nothing else."""
        bindings = [each for role in acls.ACCESS for each in _bindings(role, namespace, partners)]
        admin = self.admin()  # which has to outlive its answers
        for future in admin.create_acls(bindings).values():
            future.result(30)


def _bindings(role: acls.Role, namespace: str, partners: list[str]) -> Iterator[AclBinding]:
    def allow(kind: ResourceType, name: str, operation: AclOperation, *, prefixed: bool = False) -> AclBinding:
        pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
        return AclBinding(kind, name, pattern, f"User:{role}", "*", operation, AclPermissionType.ALLOW)

    access = acls.ACCESS[role]
    for name in acls.full(access.reads, namespace, partners):
        yield allow(ResourceType.TOPIC, name, AclOperation.READ)
    for name in acls.full(access.writes, namespace, partners):
        yield allow(ResourceType.TOPIC, name, AclOperation.WRITE)
    for name in acls.full(access.cuts, namespace, partners):
        yield allow(ResourceType.TOPIC, name, AclOperation.DELETE)
    if access.administers:
        for operation in (
            AclOperation.CREATE,
            AclOperation.DESCRIBE,
            AclOperation.DESCRIBE_CONFIGS,
            AclOperation.ALTER_CONFIGS,
        ):
            yield allow(ResourceType.TOPIC, namespace, operation, prefixed=True)
    for group in access.groups:
        yield allow(ResourceType.GROUP, namespace + group, AclOperation.READ, prefixed=True)


@contextlib.contextmanager
def provide(folder: Path) -> Iterator[Secured]:
    """Both servers, up; ended on leaving."""
    ca, server = authority(folder, "ca")
    other, _ = authority(folder, "other")
    port, controller, view_port, tls_port = ports.free(4)
    started: list[Identity] = []
    try:
        started.append(_valkey(folder / "valkey", view_port))
        started.append(_kafka(folder / "kafka", (port, controller), ca, server))
        deadline = time.monotonic() + START_S
        found = Secured(folder, f"127.0.0.1:{port}", tls_port, ca, other)
        with terminating(tls_port, view_port, server):
            while not _answer(found):
                log = (folder / "kafka" / "log").read_text()[-3000:]
                assert all(map(process.alive, started)), log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)
            yield found
    finally:
        for each in started:
            process.end(each)


def _answer(found: Secured) -> bool:
    if not ports.taken(int(found.bootstrap.rpartition(":")[2])):
        return False
    with contextlib.suppress(KafkaException, redis.RedisError):
        client = redis.Redis.from_url(found.redis_url())
        client.ping()
        client.close()
        return bool(found.admin().list_topics(timeout=5).brokers)
    return False


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """A CA's certificate, and a server's key and chain for 127.0.0.1 that it signed, each a file of PEM."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(who: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=who == name, path_length=None), critical=True)
        )
        return (made if who == name else made.add_extension(addresses, critical=False)).sign(signer, hashes.SHA256())

    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca, server = folder / f"{name}.pem", folder / f"{name}-server.pem"
    own = certificate(name, root, root).public_bytes(Encoding.PEM)
    ca.write_bytes(own)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    server.write_bytes(private + certificate("server", key, root).public_bytes(Encoding.PEM) + own)
    return ca, server


def _kafka(folder: Path, places: tuple[int, int], ca: Path, server: Path) -> Identity:
    kafka.require(kafka.java())
    jars.fetch(silent)
    port, controller = places
    prefix = "listener.name.client"
    settings = kafka.properties(Path(kafka.DATA), port, controller) | {
        "listeners": f"CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,CLIENT:SASL_SSL",
        "inter.broker.listener.name": "CLIENT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        f"{prefix}.scram-sha-512.sasl.jaas.config": f'{MODULE} required username="broker" password="{PASSWORDS["broker"]}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(server),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:broker;User:ANONYMOUS",  # the controller's listener is the broker's own
    }
    kafka._configure(folder, settings)
    *words, file = kafka._java(folder, *kafka.QUICK, "kafka.tools.StorageTool")
    words += ["format", "--cluster-id", kafka.unique(), "--config", file]
    for name, password in PASSWORDS.items():
        words += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password},iterations=4096]"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with process.held(kafka.command(Place(folder, places, quick=True)), folder / "log", folder=folder) as child:
        return child


def _valkey(folder: Path, port: int) -> Identity:
    folder.mkdir(parents=True)
    words = [*valkey.command(Place(folder, (port,))), "--user", "default", "off"]
    words += ["--user", "todoke", "on", f">{VIEW_PASSWORD}", "~*", "+@all"]
    with process.held(words, folder / "log", dict(os.environ), folder) as child:
        return child


@contextlib.contextmanager
def terminating(port: int, behind: int, server: Path) -> Iterator[None]:
    """TLS on `port`, and the same without it to `behind`: the wheel's Valkey is built without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    loop = asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", behind)
            await asyncio.gather(carry(reader, back_writer), carry(back_reader, writer))
        writer.close()

    async def run(stopping: asyncio.Event) -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", port, ssl=context):
            await stopping.wait()
        others = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    stopping = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run(stopping)))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
