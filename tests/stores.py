"""Real stores for files: an SFTP server of AsyncSSH, OpenSSH's where there is one, and an S3 server where there is one.

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
from todoke.streams.embedded import ports

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
S3 = shutil.which("versitygw")
REGION = "ap-northeast-1"


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
        if self.notes is None:
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
async def s3_store(folder: Path) -> AsyncIterator[Place]:
    """The Versity S3 gateway: a server of its own making, over a folder."""
    if S3 is None:
        pytest.skip("no versitygw: go install github.com/versity/versitygw/cmd/versitygw@latest")
    root, port, key = prepared(folder / "store" / "bucket"), ports.free(1)[0], secrets.token_hex(16)
    (folder / "meta").mkdir()
    command = [S3, "--port", f"127.0.0.1:{port}", "--access", "AKIATEST", "--secret", key, "--region", REGION]
    command += ["posix", "--sidecar", str(folder / "meta"), str(root.parent)]
    with running(command, folder / "log"):
        await answering(port)
        made = entry(url=f"http://127.0.0.1:{port}/bucket", region=REGION)
        given = {"access_key_id": "env:A", "secret_access_key": "env:B"}
        found = {"access_key_id": Secret("AKIATEST"), "secret_access_key": Secret(key)}
        yield Place(replace(made, secrets=given), found, root, folder / "meta")


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
    for _ in range(200):
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
