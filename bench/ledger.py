"""The provision log's figures: `make bench ARGS=ledger`, some minutes; `ARGS="ledger --rows 5000000"` for large ones.

Two shards, a process each, take sealed rows as they come from the topic, in batches of 2,000, until they are durable in
the vault and published; making the rows, and the broker, are left out. Then proofs, a whole verification, bytes a row.
Beside it, on the same disk: Tessera's POSIX driver, as a Go program of `rivals/tessera`, each row an entry of its own, in
batches of as many, from the first entry to the last one published.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from todoke.processors.audit import verify
from todoke.processors.checkpoint import Signer
from todoke.processors.commitment import fold_entry
from todoke.processors.keys import Keyring, seal_for_log, subject_ref
from todoke.processors.merkle import inclusion
from todoke.processors.provision import Recorder
from todoke.processors.tiles import hashes_of
from todoke.schemas import toml
from todoke.schemas.codec import Codec
from todoke.schemas.events import LogRow
from todoke.sinks.ledger import Ledger
from todoke.sinks.log import Log
from todoke.sinks.tiles import Folder
from todoke.sinks.vault.rocks import Rocks
from todoke.sinks.vault.vault import Vault
from todoke.streams import build, keyfile
from todoke.streams.metrics import Metrics
from todoke.streams.recording import Recording, RecordingTools

SIGNER = Signer("bench.example/0", bytes(range(32)))
BATCH = 2_000
CHUNK = 20_000
SHARDS = 2
SPAWN = multiprocessing.get_context("spawn")
TESSERA = "github.com/transparency-dev/tessera@v1.0.2"
HERE = Path(__file__).parent


class Row:
    """A message as the recorder reads it."""

    def __init__(self, value: bytes, offset: int) -> None:
        self._value, self._offset = value, offset

    def value(self) -> bytes:
        """The row's bytes."""
        return self._value

    def topic(self) -> str:
        """Always the same."""
        return "provision-log"

    def partition(self) -> int:
        """Always the same."""
        return 0

    def offset(self) -> int:
        """Its place."""
        return self._offset


def rows(keyring: Keyring, codec: Codec, begin: int, count: int) -> list[Row]:
    """Sealed rows of provisions, withdrawals and calls, of a hundred thousand people."""
    rng = random.Random(begin)
    made = []
    for number in range(begin, begin + count):
        name, person = str(uuid4()), f"person-{rng.randrange(100_000)}"
        event: dict[str, Any] = {
            "event_id": name,
            "subject": person,
            "occurred_at": 1_790_000_000_000,
            "source": "member-site",
            "identifiers": [{"kind": "email", "value": f"{person}@example.jp"}],
        }
        kind = "ConsentChange"
        payload: dict[str, Any] = {"event": event | {"purpose": "targeted-advertising", "decision": "withdrawn"}}
        if number % 3 == 0:
            kind = "provision-29"
            payload["event"] = event | {
                "counterpart": "kura-crm",
                "counterpart_name": "株式会社クラCRM",
                "counterpart_address": "東京都千代田区",
                "counterpart_representative": "倉田一郎",
                "legal_basis": "consent",
                "items": ["email-address", "name"],
            }
        elif number % 3 == 1:
            kind, payload = (
                "delivery-intent",
                {"obligation": name, "verb": "withdraw", "account": "main", "scope": "ads"},
            )
        sealed = seal_for_log(keyring, name, msgspec.json.encode(payload), os.urandom)
        row = LogRow(name, kind, subject_ref(keyring, person), "intake", 0, 1_790_000_000_000, name, "kura-crm", sealed)
        made.append(Row(codec.encode(row), number))
    return made


def opened(place: Path, keyring: Keyring, shard: int) -> Ledger:
    """The ledger of one shard, on disk."""
    storage, guard = Folder(place / f"log-{shard}"), Folder(place / f"guard-{shard}")
    vault = Vault(Rocks(place / f"vault-{shard}"), keyring, os.urandom)
    return Ledger(vault, storage, lambda: Log(storage, guard, [SIGNER]))


def shard(place: Path, keys: str, number: int, count: int, gate: Any, told: Any) -> None:
    """One shard's process: seconds for each chunk, both shards beginning each at once."""
    keyring, codec = keyfile.parse(keys), Codec()
    ledger = opened(place, keyring, number)
    tools = RecordingTools(codec, keyring, Metrics(), build.clock, lambda _: None, publish_s=1.0)
    recording = Recording(ledger, Recorder(toml.default_records()), tools)
    took = []
    for begin in range(0, count, CHUNK):
        coming = rows(keyring, codec, begin, CHUNK)
        gate.wait()
        began = time.perf_counter()
        for at in range(0, CHUNK, BATCH):
            recording(coming[at : at + BATCH])  # type: ignore[arg-type]  # as much of a message as it reads
        recording.publish()
        took.append(time.perf_counter() - began)
    ledger.close()
    told.put((number, took))


def durable(place: Path, keyring: Keyring, count: int) -> list[float]:
    """Rows a second of both shards together, chunk by chunk."""
    gate, told = SPAWN.Barrier(SHARDS), SPAWN.Queue()
    keys = keyfile.dump(keyring)
    found = [
        SPAWN.Process(target=shard, args=(place, keys, each, count // SHARDS, gate, told)) for each in range(SHARDS)
    ]
    for each in found:
        each.start()
    took = [told.get()[1] for _ in found]
    for each in found:
        each.join()
    return [SHARDS * CHUNK / max(pair) for pair in zip(*took, strict=True)]


def proofs(place: Path, keyring: Keyring, count: int) -> tuple[float, float]:
    """The median and the 99th percentile in ms of finding a record and making both of its proofs."""
    ledger = opened(place, keyring, 0)
    some = random.Random(1).sample(range(ledger.vault.next_leaf), min(50, ledger.vault.next_leaf))
    names = [raw for raw, _ in ledger.vault._store.scan("ids", b"", b"\xff" * 20)][:: max(1, count // 4000)]
    read, took = Folder(place / "log-0").read, []
    for raw in names[:1000] if some else []:
        began = time.perf_counter()
        kept = ledger.vault.find(raw.hex())
        assert kept is not None
        ledger.vault.path(kept.leaf, kept.place)
        inclusion(kept.leaf, ledger.log.size, hashes_of(ledger.log.size, read))
        took.append((time.perf_counter() - began) * 1000)
    ledger.close()
    took.sort()
    return statistics.median(took), took[int(len(took) * 0.99)]


def verified(place: Path, count: int) -> float:
    """Entries a second of verifying a log of `count` entries whole."""
    log = Log(Folder(place / "plain"), None, [SIGNER])
    for begin in range(0, count, 65_536):
        log.publish([fold_entry([each.to_bytes(32, "big")]) for each in range(begin, min(begin + 65_536, count))])
    log.close()
    began = time.perf_counter()
    verify(Folder(place / "plain").read, [SIGNER.verifier()], SIGNER.name)
    return count / (time.perf_counter() - began)


def tessera(place: Path, count: int) -> str:
    """Tessera's entries a second, or why there are none."""
    go = shutil.which("go")
    if go is None:
        return "not measured: no go on the PATH"
    folder = place / "tessera-build"
    shutil.copytree(HERE / "rivals" / "tessera", folder)
    for words in (["mod", "init", "bench"], ["get", TESSERA], ["mod", "tidy"], ["build", "-o", "tessera", "."]):
        done = subprocess.run([go, *words], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"not measured: go {words[0]}: {done.stderr.strip().splitlines()[-1]}"
    (place / "tessera").mkdir()
    rates = []
    for number in range(3):
        target = place / "tessera" / str(number)
        target.mkdir()
        words = [str(folder / "tessera"), f"--dir={target}", f"--entries={count}", f"--batch={BATCH}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"not measured: {done.stderr.strip().splitlines()[-1]}"
        entries, seconds = done.stdout.split()
        rates.append(int(entries) / float(seconds))
    return f"{statistics.median(rates):,.0f} entries/s ({min(rates):,.0f} to {max(rates):,.0f}; three runs)"


def size_of(folders: Sequence[Path]) -> int:
    """Bytes on disk."""
    return sum(each.stat().st_blocks * 512 for folder in folders for each in folder.rglob("*") if each.is_file())


def main() -> None:
    """Run all of it, and print."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=ledger", description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--entries", type=int, default=300_000, help="of the log that is verified whole")
    parser.add_argument("--tessera", type=int, default=100_000, help="entries for Tessera; 0 leaves it out")
    asked = parser.parse_args()
    count = max(asked.rows // (SHARDS * CHUNK), 1) * SHARDS * CHUNK
    place = Path(tempfile.mkdtemp(prefix="todoke-bench-", dir=HERE.parent))
    keyring = replace(keyfile.fresh())
    try:
        rates = durable(place, keyring, count)
        tenth = max(1, len(rates) // 10)
        print(f"durable and published, {SHARDS} shards: {statistics.median(rates):,.0f} rows/s over {count:,} rows")
        first, last = statistics.median(rates[:tenth]), statistics.median(rates[-tenth:])
        print(f"  first tenth {first:,.0f}/s, last tenth {last:,.0f}/s; slowest chunk {min(rates):,.0f}/s")
        if asked.tessera:
            print(f"Tessera, POSIX: {tessera(place, asked.tessera)}")
        middle, late = proofs(place, keyring, count)
        print(f"a record with both of its proofs: median {middle:.2f} ms, p99 {late:.2f} ms")
        print(f"a log of {asked.entries:,} entries verified whole: {verified(place, asked.entries):,.0f} entries/s")
        vaults = [place / f"vault-{each}" for each in range(SHARDS)]
        logs = [place / f"log-{each}" for each in range(SHARDS)]
        print(f"on disk: {size_of(vaults) / count:,.0f} B a row in the vault, {size_of(logs) / count:.2f} B in the log")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
