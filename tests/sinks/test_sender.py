"""The sender over real connections: what is surely not sent, what perhaps is, and what nobody gets to see."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from todoke.schemas.errors import Misconfigured, Retry
from todoke.sinks.base import HttpRequest, HttpResponse, UploadRequest
from todoke.sinks.sender import Sender

PERSON = "taro@example.com"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server made by hand: answers each request with the next of `answers`; None cuts the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.seen: list[bytes] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                self.seen.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if self.answers else None
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    calls: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        calls.add(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if calls:
            await asyncio.wait(calls, timeout=2)


def request(port: int, *, method: str = "POST", scheme: str = "http") -> HttpRequest:
    url = f"{scheme}://127.0.0.1:{port}/people/{PERSON}"
    return HttpRequest(method=method, url=url, headers={"authorization": "Bearer hunter2"}, body=PERSON.encode())


async def send(peer: Peer, *, times: int = 1, method: str = "POST", **given: int) -> list[HttpResponse]:
    async with listening(peer.handle) as port, Sender([f"127.0.0.1:{port}"], **given) as sender:
        return [await sender.send(request(port, method=method), 2) for _ in range(times)]


async def refusal(port: int, *, scheme: str = "http", timeout_s: float = 1) -> tuple[str, bool]:
    async with Sender([f"127.0.0.1:{port}"]) as sender:
        with pytest.raises(Retry) as raised:
            await sender.send(request(port, scheme=scheme), timeout_s)
    assert PERSON not in repr(raised.value)
    assert raised.value.__suppress_context__
    return raised.value.reason, raised.value.perhaps


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "both.pem").write_bytes(private + cert.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


async def test_an_answer_comes_back_whole_with_its_headers_in_lower_case() -> None:
    peer = Peer(b"HTTP/1.1 422 No\r\nX-Reason: a\r\nx-reason: b\r\nContent-Length: 2\r\n\r\nno")

    [answer] = await send(peer)

    assert (answer.status, answer.body, answer.headers["x-reason"]) == (422, b"no", "a, b")
    assert peer.seen[0].endswith(PERSON.encode())
    assert b"authorization: Bearer hunter2" in peer.seen[0]
    assert b"user-agent: todoke" in peer.seen[0]


async def test_a_redirect_is_an_answer_and_cookies_are_not_kept() -> None:
    away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    peer = Peer(away, away)

    answers = await send(peer, times=2)

    assert [each.status for each in answers] == [302, 302]
    assert b"cookie" not in peer.seen[1].lower()


async def test_a_body_is_cut_off_at_the_cap() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)

    [answer] = await send(peer, largest_answer=1000)

    assert (answer.status, answer.body) == (200, b"x" * 1000)


async def test_a_list_goes_out_in_pieces_and_is_as_long_as_it_says() -> None:
    peer, asked = Peer(OK, OK), 0

    def pieces() -> Iterator[bytes]:
        nonlocal asked
        asked += 1
        yield from (b"a\n", b"b\n")

    async with listening(peer.handle) as port, Sender([f"127.0.0.1:{port}"]) as sender:
        upload = UploadRequest(
            method="POST",
            url=f"http://127.0.0.1:{port}/lists",
            headers={"content-type": "text/csv"},
            head=b"<",
            pieces=pieces,
            tail=b">",
            size=6,
        )
        assert asked == 0  # nothing is read before it is sent
        for _ in range(2):
            assert (await sender.carry(upload, 1)).status == 200

    head, _, body = peer.seen[1].partition(b"\r\n\r\n")
    assert body == b"<a\nb\n>"
    assert b"content-length: 6" in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert "lists" not in repr(upload)


async def test_a_list_that_is_too_late_has_sent_nothing() -> None:
    peer = Peer(OK)

    def late() -> None:
        raise Retry("overdue", 0, perhaps=False)

    async with listening(peer.handle) as port, Sender([f"127.0.0.1:{port}"]) as sender:
        upload = UploadRequest(
            method="POST",
            url=f"http://127.0.0.1:{port}/",
            headers={},
            head=b"<",
            pieces=lambda: iter([PERSON.encode()]),
            tail=b">",
            size=18,
        )
        with pytest.raises(Retry, match="overdue"):
            await sender.carry(upload, 1, late)

    assert not any(PERSON.encode() in each for each in peer.seen)


async def test_the_trace_goes_along_when_there_is_one() -> None:
    peer = Peer(b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async with listening(peer.handle) as port, Sender([f"127.0.0.1:{port}"]) as sender:
        await sender.send(request(port), 1, trace)
        await sender.send(request(port), 1)

    assert f"traceparent: {trace}".encode() in peer.seen[0]
    assert b"traceparent" not in peer.seen[1]


async def test_a_refused_connection_surely_told_nobody() -> None:
    assert await refusal(free_port()) == ("not-connected", False)


async def test_a_host_without_address_surely_told_nobody() -> None:
    there = HttpRequest(method="POST", url="http://todoke.invalid/x", headers={}, body=b"")

    async with Sender(["todoke.invalid:80"]) as sender:
        with pytest.raises(Retry) as raised:
            await sender.send(there, 4)

    assert raised.value.perhaps is False


async def test_an_untrusted_certificate_surely_told_nobody(tmp_path: Path) -> None:
    peer = Peer()

    async with listening(peer.handle, self_signed(tmp_path)) as port:
        assert await refusal(port, scheme="https") == ("tls", False)

    assert peer.seen == []


async def test_a_connection_that_is_never_taken_surely_told_nobody() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            assert await refusal(full.getsockname()[1], timeout_s=0.4) == ("not-connected", False)
        finally:
            for each in waiting:
                each.close()


async def test_a_peer_that_takes_the_call_and_is_silent_was_perhaps_told() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        assert await refusal(port, timeout_s=0.3) == ("timeout", True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "connection-lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "connection-lost"),
        (b"I am no web server\r\n\r\n", "malformed-answer"),
    ],
)
async def test_a_broken_answer_was_perhaps_a_yes(answer: bytes | None, reason: str) -> None:
    peer = Peer(answer)

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        peer.seen.append(head)
        writer.write(answer or b"")

    async with listening(once) as port:
        assert await refusal(port) == (reason, True)


async def test_a_kept_connection_that_breaks_does_not_send_the_call_twice() -> None:
    peer = Peer(b"HTTP/1.1 204 No Content\r\n\r\n", None, b"HTTP/1.1 204 No Content\r\n\r\n")

    with pytest.raises(Retry, match="connection-lost") as raised:
        await send(peer, times=3, method="DELETE")

    assert raised.value.perhaps is True
    assert len(peer.seen) == 2


async def test_only_hosts_of_partners_are_called() -> None:
    peer = Peer()

    async with listening(peer.handle) as port, Sender(["partner.example:443"]) as sender:
        with pytest.raises(Misconfigured) as raised:
            await sender.send(request(port), 1)
        with pytest.raises(Misconfigured, match="an address without a host"):
            await sender.send(HttpRequest(method="POST", url="people", headers={}, body=b""), 1)

    assert str(raised.value).startswith(f"127.0.0.1:{port} is no host of a partner")
    assert PERSON not in str(raised.value)
    assert peer.seen == []


@pytest.mark.parametrize("host", ["a\\b", "a..b", "a" * 70 + ".example"])
async def test_an_address_that_no_client_can_use_is_misconfigured(host: str) -> None:
    async with Sender([f"{host}:80"]) as sender:
        with pytest.raises(Misconfigured, match="is unsound; correct it in settings") as raised:
            await sender.send(HttpRequest(method="POST", url=f"http://{host}/{PERSON}", headers={}, body=b""), 1)

    assert PERSON not in str(raised.value)


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    await send(Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    await refusal(free_port())

    assert [each for each in caplog.records if PERSON in each.getMessage() or "hunter2" in each.getMessage()] == []
    assert [each for each in caplog.records if each.name != "asyncio"] == []


class Guarding:
    """A guard that lets a number of questions pass, and then says that it is too late."""

    def __init__(self, passes: int) -> None:
        self.left = passes

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Retry("overdue", 0, perhaps=False)


@pytest.mark.parametrize("passes", [0, 1])
async def test_who_is_too_late_before_the_first_byte_has_sent_nothing(passes: int) -> None:
    peer = Peer(OK)
    async with listening(peer.handle) as port, Sender([f"127.0.0.1:{port}"]) as sender:
        with pytest.raises(Retry, match="overdue") as raised:
            await sender.send(request(port), 2, guard=Guarding(passes))
        after = await sender.send(request(port), 2)

    assert not raised.value.perhaps
    assert after.status == 200
    assert len(peer.seen) == 1


async def test_a_connection_that_made_a_call_late_serves_the_next() -> None:
    peer, connections = Peer(OK), 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await peer.handle(reader, writer)

    async with listening(counting) as port, Sender([f"127.0.0.1:{port}"]) as sender:
        with pytest.raises(Retry, match="overdue"):
            await sender.send(request(port), 2, guard=Guarding(0))
        await sender.send(request(port), 2, guard=Guarding(2))

    assert (connections, len(peer.seen)) == (1, 1)


async def test_a_guard_is_of_its_own_call_alone() -> None:
    peer = Peer(OK, OK)
    async with listening(peer.handle) as port, Sender([f"127.0.0.1:{port}"]) as sender:
        with pytest.raises(Retry, match="overdue"):
            await sender.send(request(port), 2, guard=Guarding(0))
        both = await asyncio.gather(sender.send(request(port), 2), sender.send(request(port), 2, guard=Guarding(2)))

    assert [each.status for each in both] == [200, 200]
