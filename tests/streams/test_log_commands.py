"""The log as outsiders have it: over HTTP, from a folder, with our verifier and with Tessera's."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from yarl import URL

from tests import interop
from tests.processors.test_audit import SIGNER, entry, given, made
from todoke.processors.checkpoint import dump_signer
from todoke.streams import cli, logfiles

KEY = SIGNER.verifier().dump()


def command(*words: str) -> Result:
    return CliRunner().invoke(cli.main, ["log", *words])


@asynccontextmanager
async def serving(place: Path) -> AsyncIterator[str]:
    runner = web.AppRunner(logfiles.served(place), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_a_folder_is_verified_and_from_the_saved_checkpoint_on(tmp_path: Path) -> None:
    made(tmp_path / "log", 300)
    saved = str(tmp_path / "saved")
    first = command("verify", str(tmp_path / "log"), "--key", KEY, "--save", saved)
    assert first.exit_code == 0, first.output
    assert "read 300 entries of 300 records and 0 erasures\n" in first.output
    made(tmp_path / "log", 555)
    second = command("verify", str(tmp_path / "log"), "--key", KEY, "--since", saved, "--save", saved)
    assert "read 255 entries of 255 records and 0 erasures, after the 300 that were verified before" in second.output
    (tmp_path / "log" / "tile" / "0" / "001").write_bytes(bytes(8192))
    third = command("verify", str(tmp_path / "log"), "--key", KEY)
    assert third.exit_code == 1
    assert "tile/0/001: its hash 0 is not that of entry 256 of tile/entries/001" in third.output


def test_a_receipt_is_checked_with_nothing_but_the_key(tmp_path: Path) -> None:
    data = given(tmp_path / "log", hidden=True)
    path = tmp_path / "receipt.json"
    path.write_bytes(data)
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")
    found = command("verify", "--receipt", str(path), "--key", str(keys))
    assert found.exit_code == 0, found.output
    assert "withheld: principal, internal" in found.output
    path.write_bytes(data.replace(b"email-address", b"email-addresz"))
    wrong = command("verify", "--receipt", str(path), "--key", str(keys))
    assert (wrong.exit_code, "a value, a salt or the path is wrong" in wrong.output) == (1, True)


async def test_a_log_over_http_is_verified_and_serves_only_itself(tmp_path: Path) -> None:
    made(tmp_path / "log", 700)
    (tmp_path / "secret").write_text("no")
    (tmp_path / "log" / ".lock").write_text("")
    async with serving(tmp_path / "log") as url:
        found = await asyncio.to_thread(command, "verify", url, "--key", KEY)
        assert found.exit_code == 0, found.output
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/checkpoint") as answer:
                assert answer.headers["cache-control"] == "no-cache"
                assert answer.content_type == "text/plain"
            async with session.get(f"{url}/tile/0/000") as answer:
                assert "immutable" in answer.headers["cache-control"]
                assert answer.content_type == "application/octet-stream"
            async with session.get(f"{url}/tile/entries/000") as answer:
                assert answer.headers["content-encoding"] in ("gzip", "deflate")
            for name in (
                "../secret",
                "%2e%2e/secret",
                "..%2fsecret",
                "tile/../../secret",
                "tile/0/../../../secret",
                "%2fetc%2fpasswd",
                ".lock",
                "tile/0/009",
                "tile/0",
                "tile/0/000/",
                "tile/0/000.new",
                "tile/0/000%00",
                "tile/64/000",
                "tile/0/002.p/256",
                "tile/0/002.p/0188",
                "tile/0/" + "x000/" * 300 + "000",
            ):
                async with session.get(URL(f"{url}/{name}", encoded=True)) as answer:
                    assert (answer.status, answer.headers["cache-control"]) == (404, "no-store"), name
            async with session.put(f"{url}/checkpoint", data=b"") as answer:
                assert answer.status == 405


def test_a_url_that_does_not_answer_is_said_to_be_unreadable(tmp_path: Path) -> None:
    found = command("verify", "http://127.0.0.1:9/log", "--key", KEY)
    assert found.exit_code == 2
    assert "it can't be read, so nothing can be said of the log" in found.output


def test_an_entry_is_proved_to_whoever_has_the_key(tmp_path: Path) -> None:
    made(tmp_path / "log", 300)
    proof = tmp_path / "entry.tlog-proof"
    for index in (0, 256, 299):
        done = command("prove", str(tmp_path / "log"), str(index), "--key", KEY)
        assert done.exit_code == 0, done.output
        proof.write_bytes(done.stdout_bytes)
        found = command("verify", "--receipt", str(proof), "--key", KEY)
        assert found.output == f"proved: entry {index} of {SIGNER.name}, among 300\n{entry(index).decode()}\n"
    proof.write_bytes(done.stdout_bytes.replace(b"index 299", b"index 298"))
    assert command("verify", "--receipt", str(proof), "--key", KEY).exit_code == 1
    beyond = command("prove", str(tmp_path / "log"), "300", "--key", KEY)
    assert (beyond.exit_code, "leaf 300 is not in a tree of 300 leaves" in beyond.output) == (1, True)


def test_a_pruned_log_is_verified_from_its_minimum_on(tmp_path: Path) -> None:
    made(tmp_path / "log", 700)
    for name in ("tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"):
        (tmp_path / "log" / name).unlink()
    assert command("verify", str(tmp_path / "log"), "--key", KEY).exit_code == 1
    found = command("verify", str(tmp_path / "log"), "--key", KEY, "--minimum", "520")
    assert "read 188 entries of 188 records and 0 erasures, after 512 that may be gone\n" in found.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "--key", KEY), "no such folder"),
        (("--key", KEY), "PLACE"),
        ((".",), "--key"),
        ((".", "--key", "nowhere"), "nowhere: No such file"),
        ((".", "--key", "a+b"), "log key"),
        ((".", "--key", KEY, "--since", "nowhere"), "nowhere"),
        (("--key", KEY, "--receipt", "nowhere"), "nowhere"),
    ],
)
def test_what_can_not_be_judged_ends_with_2(words: tuple[str, ...], said: str) -> None:
    found = command("verify", *words)
    assert (found.exit_code, said in found.output) == (2, True), found.output


async def test_an_answer_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            while True:
                await answer.write(bytes(1 << 20))
        return answer

    app = web.Application()
    app.router.add_get("/{name:.+}", endless)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    found = await asyncio.to_thread(command, "verify", url, "--key", KEY)
    await runner.cleanup()
    assert (found.exit_code, "larger than any part of a log" in found.output) == (1, True)


def test_the_command_needs_nothing_of_ours_around_it(tmp_path: Path) -> None:
    made(tmp_path / "log", 3)
    words = [str(Path(sys.executable).with_name("todoke")), "log", "verify", "log", "--key", KEY]
    done = subprocess.run(words, cwd=tmp_path, env={"PATH": ""}, capture_output=True, check=False)
    assert (done.returncode, done.stdout[:6]) == (0, b"whole:"), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 256, 300, 70_000])
async def test_tesseras_fsck_passes_on_our_log(tmp_path: Path, size: int) -> None:
    fsck = await asyncio.to_thread(interop.built, f"{interop.TESSERA}/cmd/fsck", interop.TESSERA_VERSION)
    made(tmp_path / "log", size)
    (tmp_path / "key").write_text(KEY)
    async with serving(tmp_path / "log") as url:
        words = [str(fsck), f"--storage_url={url}/", f"--public_key={tmp_path / 'key'}", "--ui=false"]
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-800:]


@pytest.mark.long
async def test_tesseras_fsck_sees_a_changed_entry_of_ours(tmp_path: Path) -> None:
    fsck = await asyncio.to_thread(interop.built, f"{interop.TESSERA}/cmd/fsck", interop.TESSERA_VERSION)
    made(tmp_path / "log", 300)
    path = tmp_path / "log" / "tile" / "entries" / "000"
    path.write_bytes(path.read_bytes().replace(entry(7), entry(8)))
    (tmp_path / "key").write_text(KEY)
    async with serving(tmp_path / "log") as url:
        words = [str(fsck), f"--storage_url={url}/", f"--public_key={tmp_path / 'key'}", "--ui=false"]
        process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        said = b""
        try:
            while (
                b"000" not in said
                and b"rror" not in said
                and (line := await asyncio.wait_for(process.stderr.readline(), 30))
            ):
                said += line if b"checking log" not in line else b""
        except TimeoutError:
            pass  # it waits for itself once a part is wrong
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    assert b"Successfully" not in said


@pytest.mark.long
async def test_a_log_that_tessera_wrote_is_whole_to_us(tmp_path: Path) -> None:
    posix = await asyncio.to_thread(interop.built, f"{interop.TESSERA}/cmd/conformance/posix", interop.TESSERA_VERSION)
    (tmp_path / "key").write_text(dump_signer(SIGNER))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    words = [posix, f"--storage_dir={tmp_path / 'log'}", f"--listen={url[7:]}", f"--private_key={tmp_path / 'key'}"]
    with (tmp_path / "said").open("wb") as said:
        process = await asyncio.create_subprocess_exec(*map(str, words), stdout=said, stderr=said)
    try:
        async with aiohttp.ClientSession() as session:
            await answering(session, f"{url}/checkpoint")
            saved = tmp_path / "saved"
            for begin, end in ((0, 200), (200, 300)):
                adding = [session.post(f"{url}/add", data=entry(number)) for number in range(begin, end)]
                assert {answer.status for answer in await asyncio.gather(*adding)} == {200}
                async with session.get(f"{url}/checkpoint") as answer:
                    before = await answer.read()
                while f"\n{end}\n".encode() not in before:
                    await asyncio.sleep(0.1)
                    async with session.get(f"{url}/checkpoint") as answer:
                        before = await answer.read()
                since = ("--since", str(saved)) if begin else ()
                found = await asyncio.to_thread(command, "verify", url, "--key", KEY, *since, "--save", str(saved))
                assert f"read {end - begin} entries of {end - begin} records" in found.output, found.output
        found = command("verify", str(tmp_path / "log"), "--key", KEY)
        assert found.exit_code == 0, found.output
    finally:
        process.terminate()
        await process.wait()


async def answering(session: aiohttp.ClientSession, url: str) -> None:
    """Return once something answers there."""
    for _ in range(300):
        with suppress(aiohttp.ClientError):
            async with session.get(url) as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.1)
    pytest.fail(f"{url}: no answer")
