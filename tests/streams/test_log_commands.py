"""The log as outsiders have it: over HTTP, from a folder, with our verifier and with Tessera's."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from tests import interop
from tests.processors.test_audit import SIGNER, entry, given, made
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
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
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
            for name in ("../secret", "%2e%2e/secret", "tile/../../secret", ".lock", "tile/0/009", "tile/0"):
                async with session.get(f"{url}/{name}") as answer:
                    assert answer.status == 404, name


def test_a_url_that_does_not_answer_is_said_to_be_unreadable(tmp_path: Path) -> None:
    found = command("verify", "http://127.0.0.1:9/log", "--key", KEY)
    assert found.exit_code == 1
    assert "it can't be read, so nothing can be said of it" in found.output


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
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False)
    assert done.returncode != 0
