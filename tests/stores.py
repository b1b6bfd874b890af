"""Real stores for files: SFTP servers of AsyncSSH and, where there is one, of OpenSSH; S3Proxy and, where there is one, Versity's gateway.

What is in a store lies in a folder of this machine, where a test plays the partner.
"""

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncssh
import pytest
from msgspec.structs import replace

from tests.contracts.rows import partner
from todoke.schemas.partners import Partner
from todoke.sinks.base import S3Login
from todoke.sinks.s3 import sign
from todoke.sinks.secrets import Secret
from todoke.streams.embedded import jars, kafka, ports
from todoke.streams.embedded.parts import silent

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
VERSITYGW = shutil.which("versitygw")
S3PROXY = jars.Jar(
    "org.gaul",
    "s3proxy",
    "4.1.0",
    54_955_934,
    "a4d025969aaf796616ed4b1e2491d87d455ce84bb28cb9db086b2e6aaa68b48d",
    "jar-with-dependencies",
)
"""Apache-2.0, with all that it needs, from Maven Central. It verifies signatures, and of writers of one name lets one in."""
JAVA = 17  # the oldest that runs it
JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-XX:-UsePerfData")
REGION = "ap-northeast-1"
ID = "AKIATEST"


class Place(NamedTuple):
    """A store: its entry and secrets, the folder in which its files lie, and where it keeps notes of them, if it does."""

    entry: Partner
    secrets: dict[str, Secret]
    folder: Path
    notes: Path | None = None

    def but(self, **settings: Any) -> "Place":
        """The same with some settings changed."""
        return self._replace(entry=replace(self.entry, settings={**self.entry.settings, **settings}))

    async def write(self, path: Path, body: bytes) -> None:
        """Put a file there, as its owner."""
        if "access_key_id" not in self.secrets:
            await asyncio.to_thread(path.write_bytes, body)
            return
        url = f"{self.entry.settings['url']}/{path.relative_to(self.folder)}"
        stamps = {"x-amz-date": f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", "x-amz-content-sha256": sha256(body).hexdigest()}
        login = S3Login(region=REGION, **self.secrets)
        signed = sign("PUT", url, stamps, login)
        async with aiohttp.ClientSession() as session, session.put(url, data=body, headers=signed) as answer:
            assert answer.status == 200, await answer.text()

    def remove(self, path: Path) -> None:
        """Take a file out of the store, as its owner."""
        path.unlink()
        for each in self.notes.rglob(path.name) if self.notes else ():
            shutil.rmtree(each)


def entry(**settings: Any) -> Partner:
    """A partner with files; nothing is left of the row's own store."""
    row = partner("file_drop")
    kept = {key: row.settings[key] for key in ("folder", "acknowledgements")}
    return replace(row, settings={**kept, **settings}, secrets={})


def prepared(folder: Path) -> Path:
    """A store's folder, with where we put files and where the partner puts its own."""
    for name in ("in", "ack"):
        (folder / name).mkdir(parents=True)
    return folder


@asynccontextmanager
async def asyncssh_store(
    folder: Path, server: Callable[[Any], asyncssh.SFTPServer] | None = None
) -> AsyncIterator[Place]:
    """AsyncSSH's server, or a `server` of the test's own on top of it."""
    root, host, ours = prepared(folder / "store"), _key(), _key()
    (folder / "authorized").write_bytes(ours.export_public_key())
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host],
        authorized_client_keys=str(folder / "authorized"),
        sftp_factory=server or (lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(root))),
    )
    try:
        yield _sftp(listener.get_port(), host, ours, root)
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def openssh_store(folder: Path) -> AsyncIterator[Place]:
    """OpenSSH's server, as whoever runs the tests; it has no root of its own, so paths are whole."""
    if SSHD is None:
        pytest.skip("no sshd: apt install openssh-server")
    root, host, ours, port = prepared(folder / "store"), _key(), _key(), ports.free(1)[0]
    (folder / "host").write_bytes(host.export_private_key())
    (folder / "host").chmod(0o600)
    (folder / "authorized").write_bytes(ours.export_public_key())
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "PidFile": folder / "pid",
        "AuthorizedKeysFile": folder / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "yes",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # noqa: PTH103  # where it separates privileges
    with running([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], folder / "log"):
        await answering(port)
        place = _sftp(port, host, ours, root)
        yield place.but(folder=f"{root}/in", acknowledgements=f"{root}/ack", user=os.environ.get("USER") or "root")


@asynccontextmanager
async def s3proxy_store(folder: Path) -> AsyncIterator[Place]:
    """S3Proxy over a folder. What can't be fetched raises `Missing`, so that no test passes without it."""
    kafka.require(kafka.java(), JAVA)
    await asyncio.to_thread(jars.fetch, silent, "S3Proxy", [S3PROXY])
    root, port, key = prepared(folder / "store" / "bucket"), ports.free(1)[0], secrets.token_hex(16)
    root.chmod(0o700)  # a bucket that others may read on the disk is public to it
    settings = {
        "s3proxy.endpoint": f"http://127.0.0.1:{port}",
        "s3proxy.authorization": "aws-v4",
        "s3proxy.identity": ID,
        "s3proxy.credential": key,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": root.parent,
    }
    (folder / "s3proxy").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [str(kafka.java()), *JVM, f"-Djava.io.tmpdir={folder}", "-jar", str(S3PROXY.path)]
    with running([*command, "--properties", str(folder / "s3proxy")], folder / "log"):
        await answering(port)
        yield _s3(port, key, root)


@asynccontextmanager
async def versity_store(folder: Path) -> AsyncIterator[Place]:
    """The Versity S3 gateway: a server of its own making, over a folder."""
    assert VERSITYGW
    root, port, key = prepared(folder / "store" / "bucket"), ports.free(1)[0], secrets.token_hex(16)
    (folder / "meta").mkdir()
    command = [VERSITYGW, "--port", f"127.0.0.1:{port}", "--access", ID, "--secret", key, "--region", REGION]
    command += ["posix", "--sidecar", str(folder / "meta"), str(root.parent)]
    with running(command, folder / "log"):
        await answering(port)
        yield _s3(port, key, root)._replace(notes=folder / "meta")


@contextmanager
def running(command: list[str], log: Path) -> Any:
    """A process for as long as the block takes."""
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


async def answering(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            await writer.wait_closed()
            return
    pytest.fail(f"nobody listens on port {port}")


def _key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def _sftp(port: int, host: asyncssh.SSHKey, ours: asyncssh.SSHKey, root: Path) -> Place:
    made = entry(url=f"sftp://127.0.0.1:{port}", user="todoke", host_keys=[host.export_public_key().decode().strip()])
    secret = Secret(ours.export_private_key().decode())
    return Place(replace(made, secrets={"private_key": "env:K"}), {"private_key": secret}, root)


def _s3(port: int, key: str, root: Path) -> Place:
    made = entry(url=f"http://127.0.0.1:{port}/{root.name}", region=REGION)
    given = {"access_key_id": "env:A", "secret_access_key": "env:B"}
    return Place(replace(made, secrets=given), {"access_key_id": Secret(ID), "secret_access_key": Secret(key)}, root)
