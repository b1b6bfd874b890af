"""A store that speaks SFTP, by AsyncSSH, which comes with the extra `sftp`: see docs/decisions/0017.

Sources: draft-ietf-secsh-filexfer-02 (version 3 of the protocol, which OpenSSH speaks), OpenSSH's PROTOCOL for its extensions.
"""

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from todoke.schemas.errors import Misconfigured, Retry

from .base import SOMEBODY_MUST_ACT_S, SftpLogin

if TYPE_CHECKING:
    import asyncssh

LARGEST_ANSWER = 16 << 20

Guard = Callable[[], None]


@asynccontextmanager
async def opened(url: str, login: SftpLogin, connect_s: float) -> AsyncIterator["SftpStore"]:
    """The store at `url`, `sftp://host:port`: one connection for one request, closed in the end.

    The server proves one of the keys that are listed; there is no trust at first sight. Raises `Retry`, `Misconfigured`.
    """
    try:
        import asyncssh
    except ImportError:
        raise Misconfigured("an SFTP partner needs more: pip install 'todoke[sftp]'") from None
    parts = urlsplit(url)
    try:
        async with (
            asyncssh.connect(
                parts.hostname or "",
                parts.port or 22,
                options=_options(login, connect_s),
            ) as connection,
            connection.start_sftp_client() as client,
        ):
            yield SftpStore(client)
    except asyncssh.HostKeyNotVerifiable:
        raise Retry("host-key", SOMEBODY_MUST_ACT_S, perhaps=False) from None
    except asyncssh.PermissionDenied:
        raise Retry("auth", SOMEBODY_MUST_ACT_S, perhaps=False) from None
    except (asyncssh.Error, OSError) as error:  # what a store meets itself is a Retry by now: this is the connecting
        raise Retry("timeout" if isinstance(error, TimeoutError) else "not-connected", perhaps=False) from None


def _options(login: SftpLogin, connect_s: float) -> "asyncssh.SSHClientConnectionOptions":
    import asyncssh

    try:
        keys = [asyncssh.import_private_key(login.private_key.reveal())] if login.private_key else []
        trusted = [asyncssh.import_public_key(each) for each in login.host_keys]
    except asyncssh.KeyImportError:
        raise Misconfigured("an SFTP partner's key can't be read: give keys as OpenSSH writes them") from None
    return asyncssh.SSHClientConnectionOptions(
        username=login.user,
        client_keys=keys or None,
        password=login.password.reveal() if login.password else None,
        known_hosts=(trusted, [], []),
        connect_timeout=connect_s,
        login_timeout=connect_s,
        agent_path=None,
        config=None,
        gss_host=None,
    )


class SftpStore:
    """An open session."""

    def __init__(self, client: "asyncssh.SFTPClient") -> None:
        self._client = client

    async def put(self, path: str, body: bytes, guard: Guard | None) -> bool:
        """Write under a hidden name of its own, then rename, which never overwrites: a reader sees all of it or nothing.

        The guard is asked before the first byte, and again before the name appears.
        """
        import asyncssh

        folder, _, name = path.rpartition("/")
        hidden = f"{folder}/.{name}.{token_hex(4)}.part"
        appearing = False
        try:
            if (there := await self.get(path)) is not None:
                return _same(there, body)
            if guard:
                guard()
            await self._write(hidden, body)
            try:
                if guard:
                    guard()
                appearing = True
                await self._client.rename(hidden, path)
            except Exception:  # a call that is cancelled by its time leaves the hidden file: nobody waits for it then
                with suppress(asyncssh.Error, OSError):
                    await self._client.remove(hidden)
                raise
        except (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, OSError):
            raise Retry("connection-lost", perhaps=appearing) from None
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            raise Retry("no-such-folder", SOMEBODY_MUST_ACT_S, perhaps=False) from None
        except asyncssh.SFTPPermissionDenied:
            raise Retry("denied", SOMEBODY_MUST_ACT_S, perhaps=False) from None
        except asyncssh.Error:  # version 3 has one code for a full disk, and for a name that was taken meanwhile
            if appearing and (there := await self.get(path)) is not None:
                return _same(there, body)
            raise Retry("sftp-failure", perhaps=False) from None
        return True

    async def get(self, path: str) -> bytes | None:
        import asyncssh

        try:
            async with self._client.open(path, "rb") as file:
                body = await file.read(LARGEST_ANSWER)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return None
        except asyncssh.SFTPPermissionDenied:
            raise Retry("denied", SOMEBODY_MUST_ACT_S, perhaps=False) from None
        except (asyncssh.Error, OSError):
            raise Retry("connection-lost", perhaps=False) from None
        assert isinstance(body, bytes)  # it was opened as such
        if len(body) >= LARGEST_ANSWER:
            raise Retry("answer-too-large", SOMEBODY_MUST_ACT_S, perhaps=False)
        return body

    async def _write(self, path: str, body: bytes) -> None:
        import asyncssh

        async with self._client.open(path, "wb") as file:
            await file.write(body)
            with suppress(asyncssh.SFTPOpUnsupported):  # OpenSSH's own extension
                await file.fsync()


def _same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(sha256(one).digest(), sha256(other).digest())
