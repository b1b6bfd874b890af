"""The emulators, called as a stranger would call them: they refuse what the vendors' pages say is refused."""

import base64
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from todoke.schemas.errors import Misconfigured
from todoke.sinks.emulators import Place, emulating
from todoke.sinks.emulators.server import Fault, Faults, Journal

NOW = 1_764_000_000_000
RAW = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(RAW).decode()
HASH = hashlib.sha256(b"taro@example.com").hexdigest()
MAID = "6d92078a-8246-4ba4-ae5b-76104861e7dc"
SESSION = {"session_id": 9, "batch_seq": 1, "last_batch_flag": True}

RUN = """
import sys, time
from pathlib import Path
from todoke.sinks.emulators import Place
from todoke.sinks.emulators.command import run
place = Place(journal=Path(sys.argv[1]), fsync=True)
run("meta", "token", lambda: time.time_ns() // 1_000_000, place=place, ready=lambda at: print(at, flush=True))
print("closed")
"""


def clock() -> int:
    return NOW


async def ask(address: str, path: str, **given: Any) -> tuple[int, Any]:
    method = given.pop("method", "POST")
    async with aiohttp.ClientSession() as session, session.request(method, address + path, **given) as response:
        text = await response.text()
        return response.status, json.loads(text) if text[:1] in {"{", "["} else text


async def users(address: str, payload: Any, **given: Any) -> tuple[int, Any]:
    """A call as Meta's guide shows it: a form, with the token in it."""
    fields = {"access_token": "token", "payload": json.dumps(payload), **given.pop("fields", {})}
    path = given.pop("path", "/v25.0/1/users")
    headers = {"content-type": "application/x-www-form-urlencoded", **given.pop("headers", {})}
    return await ask(address, path, method=given.pop("method", "DELETE"), data=urlencode(fields), headers=headers)


def event(verb: str = "withdraw", *identifiers: dict[str, str]) -> dict[str, Any]:
    data = {"obligation_id": "o", "verb": verb, "scope": "ads", "account": "main"}
    named = list(identifiers) or [{"kind": "email", "sha256": HASH}]
    return {"type": f"todoke.suppression.{verb}", "data": {**data, "identifiers": named}}


async def deliver(address: str, body: Any, *, identity: str = "r-1", at: int = NOW // 1000, key: bytes = RAW) -> int:
    text = json.dumps(body)
    mac = base64.b64encode(hmac.new(key, f"{identity}.{at}.{text}".encode(), "sha256").digest()).decode()
    headers = {"webhook-id": identity, "webhook-timestamp": str(at), "webhook-signature": f"v1a,AAAA v1,{mac}"}
    status, _ = await ask(address, "/anything", data=text, headers=headers)
    return status


async def test_meta_adds_and_removes_members_as_its_guide_shows() -> None:
    async with emulating("meta", "token", clock) as address:
        rows = {"schema": ["EMAIL", "MADID"], "data": [[HASH, ""], ["", MAID]]}
        added = await users(address, rows, method="POST", fields={"session": json.dumps(SESSION)})
        _, state = await ask(address, "/_emulator/state", method="GET")
        as_json = {"payload": {"schema": ["EMAIL"], "data": [[HASH]]}, "method": "delete"}
        removed = await ask(address, "/v25.0/1/users", json=as_json, headers={"authorization": "Bearer token"})
        _, one = await ask(address, f"/_emulator/state?identifier={HASH}", method="GET")

    assert (added[0], added[1]["num_received"], added[1]["num_invalid_entries"]) == (200, 2, 0)
    assert state["audiences"] == {"1": sorted([HASH, hashlib.sha256(MAID.encode()).hexdigest()])}
    assert removed[0] == 200
    assert one == {"audiences": [], "last": {HASH: {"1": {"op": "remove", "at": NOW, "request_id": "T2"}}}}


@pytest.mark.parametrize(
    "cell", [HASH.upper(), HASH[:-1], "taro@example.com", "819012345678", 7, None, f" {HASH}"], ids=str
)
async def test_meta_counts_a_row_that_is_not_hashed_as_invalid_with_200(cell: object) -> None:
    async with emulating("meta", "token", clock) as address:
        status, body = await users(address, {"schema": ["EMAIL"], "data": [[cell], [HASH]]})
        _, state = await ask(address, "/_emulator/state", method="GET")

    assert (status, body["num_received"], body["num_invalid_entries"]) == (200, 2, 1)
    assert list(state["last"]) == [HASH]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"fields": {"access_token": "wrong"}}, 190),
        ({"headers": {"authorization": "Bearer wrong"}}, 190),
        ({"path": "/v24.0/1/users"}, 2635),
        ({"path": "/v25.0/2/users"}, 100),
        ({"path": "/v25.0/x/users"}, 100),
        ({"method": "PUT"}, 100),
        ({"method": "POST"}, 100),
        ({"method": "POST", "fields": {"session": '{"session_id": 0}'}}, 100),
        ({"fields": {"payload": "{"}}, 100),
        ({"fields": {"payload": '{"schema": "EMAIL", "data": []}'}}, 100),
        ({"fields": {"payload": '{"schema": ["MAIL"], "data": []}'}}, 100),
        ({"fields": {"payload": '{"schema": ["EMAIL"], "data": [["a", "b"]]}'}}, 100),
        ({"fields": {"payload": json.dumps({"schema": ["EMAIL"], "data": [[HASH]] * 10_001})}}, 105),
    ],
)
async def test_meta_refuses_in_the_body(given: dict[str, Any], code: int) -> None:
    async with emulating("meta", "token", clock, options={"audiences": "1"}) as address:
        status, body = await users(address, {"schema": ["EMAIL"], "data": [[HASH]]}, **given)
        _, state = await ask(address, "/_emulator/state", method="GET")

    assert (status, body["error"]["code"]) == (400, code)
    assert state["last"] == {}


async def test_meta_takes_ids_of_our_own_as_they_are_and_no_json_that_is_none() -> None:
    async with emulating("meta", "token", clock) as address:
        taken, _ = await users(address, {"schema": ["EXTERN_ID"], "data": [["M-1"]]})
        headers = {"content-type": "application/json", "authorization": "Bearer token"}
        broken = await ask(address, "/v25.0/1/users", method="DELETE", data="{", headers=headers)

    assert taken == 200
    assert (broken[0], broken[1]["error"]["code"]) == (400, 100)


@pytest.mark.parametrize(
    ("stamp", "text", "status"),
    [
        (None, "token", 200),
        (NOW // 1000, f"token|{NOW // 1000}", 200),
        (NOW // 1000 - 301, f"token|{NOW // 1000 - 301}", 400),
        (NOW // 1000, "token", 400),
        ("soon", "token|soon", 400),
    ],
)
async def test_meta_checks_the_proof_of_the_app_secret(stamp: object, text: str, status: int) -> None:
    fields = {"appsecret_proof": hmac.new(b"s", text.encode(), "sha256").hexdigest()}
    if stamp is not None:
        fields["appsecret_time"] = str(stamp)

    async with emulating("meta", "token", clock, options={"app_secret": "s"}) as address:
        answered, _ = await users(address, {"schema": ["EMAIL"], "data": [[HASH]]}, fields=fields)

    assert answered == status


async def test_a_webhook_is_applied_once_however_often_it_comes() -> None:
    async with emulating("webhook", SECRET, clock) as address:
        statuses = [await deliver(address, event(), at=NOW // 1000 + late) for late in (0, 5, -300, 300)]
        _, state = await ask(address, "/_emulator/state", method="GET")

    assert statuses == [204] * 4
    assert state == {
        "last": {HASH: {"main|ads": {"op": "withdrawn", "at": NOW, "request_id": "r-1"}}},
        "events": 1,
        "duplicates": 3,
    }


@pytest.mark.parametrize(
    ("body", "given", "status"),
    [
        (event(), {"key": b"x" * 32}, 401),
        (event(), {"at": NOW // 1000 - 301}, 401),
        (event(), {"at": NOW // 1000 + 301}, 401),
        (event(), {"identity": "a.b"}, 401),
        ([], {}, 400),
        ({"type": "todoke.suppression.withdraw"}, {}, 400),
        ({**event(), "type": "todoke.suppression.grant"}, {}, 400),
        (event("forget"), {}, 400),
        (event("withdraw", {"kind": "email"}), {}, 400),
    ],
)
async def test_a_webhook_that_is_not_ours_or_not_understood_changes_nothing(
    body: Any, given: dict[str, Any], status: int
) -> None:
    async with emulating("webhook", SECRET, clock) as address:
        assert await deliver(address, body, **given) == status
        _, state = await ask(address, "/_emulator/state", method="GET")

    assert state["last"] == {}


async def test_a_webhook_is_posted_and_signed_in_base64() -> None:
    async with emulating("webhook", SECRET, clock) as address:
        got, _ = await ask(address, "/hook", method="GET")
        headers = {"webhook-id": "r", "webhook-timestamp": str(NOW // 1000), "webhook-signature": "v1,???"}
        unsigned, _ = await ask(address, "/hook", data="{}", headers=headers)

    assert (got, unsigned) == (405, 401)


async def test_a_second_secret_is_good_while_it_is_being_replaced() -> None:
    newer = "whsec_" + base64.b64encode(b"n" * 32).decode()

    async with emulating("webhook", newer, clock, options={"previous": SECRET}) as address:
        assert await deliver(address, event()) == 204
        assert await deliver(address, event(), key=b"n" * 32, identity="r-2") == 204


async def test_the_journal_brings_everything_back_and_names_nobody(tmp_path: Path) -> None:
    place = Place(journal=tmp_path / "journal.jsonl", fsync=True)
    plain = {"kind": "email", "value": "taro@example.com"}
    async with emulating("webhook", SECRET, clock, place=place) as address:
        await deliver(address, event("withdraw", plain))
        await deliver(address, event("delete"), identity="r-2")
        _, before = await ask(address, "/_emulator/state", method="GET")
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"at": 1, "op"')  # cut short by a crash

    async with emulating("webhook", SECRET, clock, place=place) as address:
        _, after = await ask(address, "/_emulator/state", method="GET")
        await deliver(address, event("delete"), identity="r-2")
        await deliver(address, event("suspend"), identity="r-3")

    assert after == before
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [line["op"] for line in lines] == ["withdrawn", "deleted", "suspended"]
    assert lines[0]["identifiers"] == [HASH]
    assert "taro" not in (tmp_path / "journal.jsonl").read_text()


def test_a_journal_cut_in_its_first_line_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"half')

    with Journal(tmp_path / "j") as journal:
        assert journal.lines() == []
        journal.write({"a": 1})
        assert journal.lines() == [{"a": 1}]


async def test_faults_that_no_vendor_has_are_refused_with_the_list() -> None:
    async with emulating("meta", "token", clock) as address:
        unknown = await ask(address, "/_emulator/faults", json={"kind": "bad-receipt"})
        broken = await ask(address, "/_emulator/faults", json={"kind": "429", "often": 1})

    assert unknown[0] == broken[0] == 400
    assert "known: slow, timeout, drop-after-apply, dead, 429" in unknown[1]["error"]


def test_faults_strike_by_seed_in_order_and_wear_off() -> None:
    faults = Faults()
    faults.replace([Fault(kind="a", times=2), Fault(kind="b", rate=0.5, seed=7)])
    first = [struck.kind if (struck := faults.strike()) else "" for _ in range(20)]
    faults.replace([Fault(kind="b", rate=0.5, seed=7)])
    alone = [struck.kind if (struck := faults.strike()) else "" for _ in range(20)]

    assert first[:2] == ["a", "a"]
    assert first[2:] == alone[2:]
    assert set(alone) == {"b", ""}


async def test_an_unknown_emulator_or_option_is_named() -> None:
    for name, options, says in (
        ("mata", {}, "no emulator is called mata; known: "),
        ("meta", {"secret": "x"}, "options: app_secret, api_version, audiences"),
        ("webhook", {"receipts": "perhaps"}, "emulator webhook"),
    ):
        with pytest.raises(Misconfigured, match=says):
            async with emulating(name, "token", clock, options=options):
                pass


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path / "journal.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)

    assert (process.returncode, out, err) == (0, "closed\n", "")
    assert time.monotonic() - started < 5
