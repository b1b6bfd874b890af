"""Makes tests/golden/log: other projects' vectors for trees and logs, from their checkouts.

Run it to take up newer ones: `python tests/golden/make_log.py MERKLE TESSERA`, two checkouts. Where each file is from, at
which commit and under which licence: tests/golden/log/README.md.
"""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "log"


def proofs(checkout: Path, kind: str) -> Iterator[tuple[str, bytes]]:
    """The probes of one kind of proof by name: a proof, right or damaged, and whether it must be refused."""
    place = checkout / "testdata" / kind
    for path in sorted(place.rglob("*.json")):
        yield str(path.relative_to(place)), path.read_bytes()


def log(checkout: Path) -> Iterator[tuple[str, bytes]]:
    """The files of Tessera's log by path, the writer's own state left out."""
    place = checkout / "testdata" / "log"
    for path in sorted(each for each in place.rglob("*") if each.is_file()):
        name = str(path.relative_to(place))
        if not name.startswith("."):
            yield name, path.read_bytes()


def main(merkle: Path, tessera: Path) -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for kind in ("inclusion", "consistency"):
        _write(kind, {name: msgspec.json.decode(data) for name, data in proofs(merkle, kind)})
    _write("tessera", {name: base64.b64encode(data).decode() for name, data in log(tessera)})


def _write(name: str, value: object) -> None:
    lines = msgspec.json.encode(value).replace(b'},"', b'},\n"').replace(b'=","', b'=",\n"')
    (FOLDER / f"{name}.json").write_bytes(lines + b"\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
